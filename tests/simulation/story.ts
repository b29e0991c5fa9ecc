/** What happened in a run, in order: always as a hash, so that two runs can be compared, and as lines where wanted. */
export class Story {
  readonly #lines: string[] | undefined;
  #hash = 0x811c9dc5;
  #count = 0;

  /** @param keep whether lines are kept; the hash is the same either way. */
  constructor(keep: boolean) {
    this.#lines = keep ? [] : undefined;
  }

  /** One event: who, what, and about what (FNV-1a over all of them). */
  note(now: number, who: string, what: string, about = ""): void {
    this.#count++;
    this.#mix(who);
    this.#mix(what);
    this.#mix(about);
    this.#hash = Math.imul(this.#hash ^ Math.round(now * 1e6), 0x01000193);
    this.detail(now, who, what, about);
  }

  /** For the lines only. */
  detail(now: number, who: string, what: string, about: string): void {
    this.#lines?.push(`${now.toFixed(6).padStart(13)}  ${who.padEnd(10)}  ${what}  ${about}`);
  }

  #mix(text: string): void {
    let hash = this.#hash;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    this.#hash = hash;
  }

  get keepsLines(): boolean {
    return this.#lines !== undefined;
  }
  get lines(): readonly string[] {
    return this.#lines ?? [];
  }
  /** Number of events. */
  get count(): number {
    return this.#count;
  }
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }
}
