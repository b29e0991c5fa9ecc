/** Virtual time: a clock that jumps from event to event. Whatever happens in a run happens in one of its events. */
import type { Random } from "./random.ts";
import type { Story } from "./story.ts";

/** Something that should not be: the product is wrong, or what the simulation believes about it. */
export class Violation extends Error {
  override readonly name = "Violation";
}

interface Timer {
  readonly time: number;
  readonly order: number;
  readonly background: boolean;
  work: (() => void) | undefined;
}

/** Seconds without anything but background events after which nothing more is expected to happen. */
const PATIENCE = 4;

export class World {
  readonly random: Random;
  readonly story: Story;
  /** Seconds. */
  now = 1000;
  /** Events so far. */
  events = 0;
  readonly #heap: Timer[] = [];
  #order = 0;
  /** Events to come that are not background. */
  #pending = 0;
  #background = false;

  constructor(random: Random, story: Story) {
    this.random = random;
    this.story = story;
  }

  note(who: string, what: string, about = ""): void {
    this.story.note(this.now, who, what, about);
  }

  /**
   * Calls `work` after so many seconds. What a background event starts is background as well, unless said otherwise:
   * heartbeats go on for ever, and must not make a quiet cluster look busy.
   *
   * @returns cancels it.
   */
  after(seconds: number, work: () => void, background: boolean = this.#background): () => void {
    const timer: Timer = { time: this.now + Math.max(0, seconds), order: this.#order++, background, work };
    this.#push(timer);
    if (!background) this.#pending++;
    return () => {
      if (timer.work === undefined) return;
      timer.work = undefined;
      if (!background) this.#pending--;
    };
  }

  /** Runs until the given time. */
  runUntil(time: number, limit: number): void {
    while (this.#heap.length > 0 && (this.#heap[0] as Timer).time <= time) this.#step(limit);
    this.now = Math.max(this.now, time);
  }

  /**
   * Runs until nothing happens any more, but for background events.
   *
   * @throws {Violation} where that is not reached within `seconds` or `limit` events.
   */
  settle(seconds: number, limit: number): void {
    const deadline = this.now + seconds;
    let busy = this.now;
    while (this.#heap.length > 0) {
      if (this.#pending > 0) busy = this.now;
      else if ((this.#heap[0] as Timer).time > busy + PATIENCE) return;
      if (this.now > deadline) throw new Violation(`does not come to rest within ${seconds} s`);
      this.#step(limit);
    }
  }

  #step(limit: number): void {
    const timer = this.#pop();
    const { work } = timer;
    if (work === undefined) return;
    timer.work = undefined;
    if (!timer.background) this.#pending--;
    this.now = Math.max(this.now, timer.time);
    if (++this.events > limit) throw new Violation(`does not come to rest within ${limit} events`);
    this.#background = timer.background;
    try {
      work();
    } finally {
      this.#background = false;
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(timer);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Timer;
      if (!isBefore(timer, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = timer;
  }

  #pop(): Timer {
    const heap = this.#heap;
    const top = heap[0] as Timer;
    const last = heap.pop() as Timer;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= heap.length) break;
      if (childAt + 1 < heap.length && isBefore(heap[childAt + 1] as Timer, heap[childAt] as Timer)) childAt++;
      if (!isBefore(heap[childAt] as Timer, last)) break;
      heap[at] = heap[childAt] as Timer;
      at = childAt;
    }
    heap[at] = last;
    return top;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
