import { NotKnown } from "./not-known.ts";

/**
 * What is shared in a pickle is looked at again at each place: a few hundred bytes can stand for more places than anybody
 * could visit.
 */
export class Budget {
  #left: number;

  constructor(steps: number) {
    this.#left = steps;
  }

  /** @throws {NotKnown} when nothing is left. */
  take(): void {
    if (--this.#left < 0) throw new NotKnown("data of too many parts");
  }
}
