/**
 * Work that must not overlap (Scheduler._replica_lock): replicate and rebalance run alone; retirements may run beside
 * each other, but not beside those.
 */
export class ReplicaLock {
  #shared = 0;
  #exclusive = false;
  #waiting: { readonly exclusive: boolean; readonly enter: () => void }[] = [];

  async run<T>(exclusive: boolean, work: () => Promise<T>): Promise<T> {
    await this.#enter(exclusive);
    try {
      return await work();
    } finally {
      if (exclusive) this.#exclusive = false;
      else this.#shared--;
      this.#admit();
    }
  }

  #enter(exclusive: boolean): Promise<void> {
    return new Promise((enter) => {
      this.#waiting.push({ exclusive, enter });
      this.#admit();
    });
  }

  /** Lets in whoever may, in the order in which they came. */
  #admit(): void {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || this.#exclusive || (next.exclusive && this.#shared > 0)) return;
      this.#waiting.shift();
      if (next.exclusive) this.#exclusive = true;
      else this.#shared++;
      next.enter();
    }
  }
}
