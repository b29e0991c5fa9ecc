/** How busy this process's event loop is; one measurement for all servers in it (ServerNode's tick). */
import { PerformanceObserver } from "node:perf_hooks";
import { Histogram, SECONDS_BOUNDS } from "./histogram.ts";

/**
 * `distributed.admin.tick.interval` of stock. A timer of our own: perf_hooks.monitorEventLoopDelay forgets the tick after
 * each reset, and its buckets can be read only by searching its percentiles.
 */
const TICK_MS = 20;
/** Weight of the newest tick in the mean, which so goes back some seconds. */
const RECENT = 0.01;

export class EventLoopMeter {
  static #shared: EventLoopMeter | undefined;

  /** How much later than due a timer fired, seconds. */
  readonly lag: Histogram = new Histogram(SECONDS_BOUNDS);
  /** Ticks since the start. */
  tickCount = 0;
  /** Mean seconds between two ticks, of late. */
  intervalS: number = TICK_MS / 1000;
  /** Seconds that V8 spent collecting garbage. */
  gcSeconds = 0;
  #lastMs: number = performance.now();
  #maxTickS = 0;

  private constructor() {
    const timer = setInterval(() => this.#tick(), TICK_MS);
    timer.unref();
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) this.gcSeconds += entry.duration / 1000;
    });
    observer.observe({ entryTypes: ["gc"] });
  }

  /** The meter of this process; measuring starts with the first call. */
  static get(): EventLoopMeter {
    EventLoopMeter.#shared ??= new EventLoopMeter();
    return EventLoopMeter.#shared;
  }

  /** The longest tick since the last {@link takeMaxTickS}, seconds. */
  get maxTickS(): number {
    return this.#maxTickS;
  }

  /** The longest tick since the last call, the one under way included; seconds. */
  takeMaxTickS(): number {
    const max = Math.max(this.#maxTickS, (performance.now() - this.#lastMs) / 1000);
    this.#maxTickS = 0;
    return max;
  }

  #tick(): void {
    const now = performance.now();
    const seconds = (now - this.#lastMs) / 1000;
    this.#lastMs = now;
    this.tickCount++;
    this.#maxTickS = Math.max(this.#maxTickS, seconds);
    this.intervalS += (seconds - this.intervalS) * RECENT;
    this.lag.observe(Math.max(0, seconds - TICK_MS / 1000));
  }
}
