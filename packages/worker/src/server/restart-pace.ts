/** How fast an executor that keeps dying is replaced. */

/** Deaths within this time count together. */
const WINDOW_S = 60;
/** So many replacements come at once: a task that kills its executor is given up by the scheduler after four. */
const FREE_RESTARTS = 8;
const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 30;

export class RestartPace {
  #deaths: number[] = [];

  /**
   * Books a death.
   *
   * @param now seconds, any steady clock.
   * @returns seconds to wait before the next start.
   */
  died(now: number): number {
    this.#deaths = this.#deaths.filter((time) => now - time < WINDOW_S);
    this.#deaths.push(now);
    const excess = this.#deaths.length - FREE_RESTARTS;
    return excess <= 0 ? 0 : Math.min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (excess - 1));
  }
}
