/**
 * Whether the executor can be asked for values now. A task that holds the GIL keeps all of its threads from working: a
 * peer that is told so can ask another holder, one that waits cannot. A message that the executor reads at once comes
 * back at once, whatever it does for others meanwhile.
 */

/** How long an answer may take where the one before came soon. */
const PATIENCE_MS = 40;
/** Where answers come late but come, as among many threads of Python code, they are waited for. */
const LATE_FACTOR = 4;
const LONGEST_PATIENCE_MS = 2000;

export class ExecutorPulse {
  readonly #ping: () => Promise<void>;
  #pending: Promise<boolean> | undefined;
  #since = 0;
  #patienceMs = PATIENCE_MS;

  /** @param ping resolves when the executor has read it. */
  constructor(ping: () => Promise<void>) {
    this.#ping = ping;
  }

  /** False where the executor is kept from answering; true where it answers, or is gone. */
  async answers(): Promise<boolean> {
    this.#pending ??= this.#start();
    const left = this.#since + this.#patienceMs - performance.now();
    if (left <= 0) return false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, left, false);
    });
    const answer = await Promise.race([this.#pending, late]);
    clearTimeout(timer);
    return answer;
  }

  async #start(): Promise<boolean> {
    this.#since = performance.now();
    try {
      await this.#ping();
    } catch {
      // Gone: whatever is asked of it fails by itself.
    }
    const tookMs = performance.now() - this.#since;
    this.#patienceMs = Math.min(LONGEST_PATIENCE_MS, Math.max(PATIENCE_MS, LATE_FACTOR * tookMs));
    this.#pending = undefined;
    return true;
  }
}
