/** Several graph hosts, where several clients submit large graphs at once. */
import type { Message, Value } from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";
import { GraphHost, type GraphHostOptions, type OpenGraphRequest } from "./graph-host.ts";

/** Gives each request to the host with the least to do. Order between requests is the caller's: await the first. */
export class GraphHostPool {
  readonly #hosts: readonly GraphHost[];

  private constructor(hosts: readonly GraphHost[]) {
    this.#hosts = hosts;
  }

  /** @throws {PythonChildError} where one cannot be started; the others are closed then. */
  static async start(options: GraphHostOptions, size = 1): Promise<GraphHostPool> {
    const started = await Promise.allSettled(Array.from({ length: size }, () => GraphHost.start(options)));
    const hosts = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const failed = started.find((result) => result.status === "rejected");
    if (failed !== undefined) {
      await Promise.all(hosts.map((host) => host.close()));
      throw failed.reason;
    }
    return new GraphHostPool(hosts);
  }

  get versions(): Value {
    return this.#first.versions;
  }
  get #first(): GraphHost {
    return this.#hosts[0] as GraphHost;
  }
  #idlest(): GraphHost {
    return this.#hosts.reduce((best, host) => (host.busy < best.busy ? host : best), this.#first);
  }

  openGraph(request: OpenGraphRequest): Promise<Graph> {
    return this.#idlest().openGraph(request);
  }
  /** Always the first host: what a user's function leaves behind in its process is there for the next one. */
  call(op: string, fields: Message): Promise<Message> {
    return this.#first.call(op, fields);
  }
  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.close()));
  }
}
