/** The processes that open graphs. One may die; whatever it was opening then fails. */
import type { Graph } from "../../packages/scheduler/src/core/index.ts";
import type { Monitor } from "./monitor.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export class GraphHost {
  readonly #world: World;
  readonly #monitor: Monitor;
  readonly #random: Random;
  readonly #seconds: number;
  readonly #opening: Set<() => void> = new Set();

  /** @param seconds mean time that a graph takes. */
  constructor(world: World, monitor: Monitor, random: Random, seconds: number) {
    this.#world = world;
    this.#monitor = monitor;
    this.#random = random;
    this.#seconds = seconds;
  }

  open(submission: string, onGraph: (graph: Graph) => void, onFailure: (exception: string) => void): void {
    const cancel = this.#world.after(
      this.#random.exponential(this.#seconds),
      () => {
        this.#opening.delete(fail);
        this.#world.note("graph-host", "opened", submission);
        onGraph(this.#monitor.submission(submission).graph);
      },
      false,
    );
    const fail = (): void => {
      cancel();
      this.#world.note("graph-host", "lost", submission);
      this.#monitor.graphLost(submission);
      onFailure(`graph-host:${submission}`);
    };
    this.#opening.add(fail);
  }

  die(): void {
    this.#world.note("graph-host", "dies");
    const failing = Array.from(this.#opening);
    this.#opening.clear();
    for (const fail of failing) fail();
  }
}
