/** Graphs of clients: read here where that is possible, opened by the graph host where not. */
import type { Graph } from "../core/graph.ts";
import type { OpenGraphRequest } from "../graph-host/graph-host.ts";
import { GraphPickles, type GraphReading, KnownGlobals } from "../graph-reader/index.ts";
import type { SchedulerContext } from "./context.ts";
import { inSlices, slice } from "./slices.ts";
import { pythonOf } from "./versions.ts";

/** Opens the graphs of one scheduler. */
export class Graphs {
  readonly #ctx: SchedulerContext;
  readonly #pickles: GraphPickles;

  constructor(ctx: SchedulerContext) {
    this.#ctx = ctx;
    this.#pickles = new GraphPickles(new KnownGlobals(), ctx.config.getBoolean("optimization.fuse.delayed"));
  }

  /**
   * The opened graph; at once where it is small and needs no Python.
   *
   * @throws {RemoteError} where Python cannot open it; the promise rejects with it, too.
   */
  open(client: string, request: OpenGraphRequest): Graph | Promise<Graph> {
    if (!this.#ctx.settings.nativeGraphs) return this.#askHost(request);
    const steps = this.#pickles.read(request, this.#codeFits(client));
    const reading = slice(steps);
    if (reading === undefined) return this.#goOn(steps, request);
    return this.#graphOf(reading.value, request);
  }

  async #goOn(steps: Generator<undefined, GraphReading>, request: OpenGraphRequest): Promise<Graph> {
    return await this.#graphOf(await inSlices(steps), request);
  }

  #graphOf(reading: GraphReading, request: OpenGraphRequest): Graph | Promise<Graph> {
    return "graph" in reading ? reading.graph : this.#askHost(request, reading);
  }

  async #askHost(request: OpenGraphRequest, reading?: Exclude<GraphReading, { graph: Graph }>): Promise<Graph> {
    if (reading !== undefined) {
      this.#ctx.log.debug(`A task graph goes to the graph host: ${reading.notKnown}`);
    }
    const host = await this.#ctx.graphHost();
    const graph = await host.openGraph(request);
    if (reading !== undefined) this.#pickles.known.learn(reading.names);
    return graph;
  }

  /**
   * Whether code that this client has pickled by value can be opened where its tasks run. Stock finds out by opening it
   * on the scheduler.
   */
  #codeFits(client: string): boolean {
    const ctx = this.#ctx;
    const theirs = releaseOf(pythonOf(ctx.core.state.clients.get(client)?.versions ?? null));
    if (theirs === undefined) return false;
    const own = ctx.versionsNow();
    if (own !== null) return releaseOf(pythonOf(own)) === theirs;
    const workers = [...ctx.workerVersions.of("python")];
    return workers.length > 0 && workers.every((version) => releaseOf(version) === theirs);
  }
}

/** `3.11` of `3.11.2.final.0`. */
function releaseOf(version: string | undefined): string | undefined {
  return version === undefined ? undefined : /^\d+\.\d+/.exec(version)?.[0];
}
