/** Several graph hosts, where several clients submit large graphs at once. */
import { type Message, RemoteError, type Value } from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";
import { GraphHost, type GraphHostOptions, type OpenGraphRequest } from "./graph-host.ts";

/** A graph names something that the graph host may not have. */
const MISSING = /Error during deserialization|\b(?:ModuleNotFoundError|ImportError|AttributeError)\b/;

/** Gives each request to the host with the least to do. Order between requests is the caller's: await the first. */
export class GraphHostPool {
  readonly #hosts: readonly GraphHost[];
  /** Opens a graph where users' functions may have made what it needs; undefined where there is no such place. */
  elsewhere: ((request: OpenGraphRequest) => Promise<Graph> | undefined) | undefined;

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

  async openGraph(request: OpenGraphRequest): Promise<Graph> {
    try {
      return await this.#idlest().openGraph(request);
    } catch (error) {
      const missing = error instanceof RemoteError && MISSING.test(error.exceptionText);
      const opened = missing ? this.elsewhere?.(request) : undefined;
      if (opened === undefined) throw error;
      return await opened;
    }
  }
  /** Always the first host: what a user's function leaves behind in its process is there for the next one. */
  call(op: string, fields: Message): Promise<Message> {
    return this.#first.call(op, fields);
  }
  /** A file was uploaded: it can be imported where graphs are opened, in children that come later too. */
  async upload(path: string, load: boolean): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.upload(path, load)));
  }
  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.close()));
  }
}
