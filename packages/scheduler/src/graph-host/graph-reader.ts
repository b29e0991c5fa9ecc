/** The chunks of `open-graph` (packages/python/dask_ts/graph_columns.py) put together to a {@link Graph}. */
import { type Key, keyId, type Message, Pickled, ProtocolError, type Value } from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";

const NO_DEPENDENCIES: readonly number[] = [];
const NO_FRAMES: readonly Uint8Array[] = [];
const NO_METADATA: ReadonlyMap<Value, Value> = new Map();

/** Takes the chunks of one graph in order, each as soon as it is there, then the reply. */
export class GraphReader {
  #total = 0;
  readonly #keys: Key[] = [];
  readonly #ids: string[] = [];
  readonly #dependencies: (readonly number[])[] = [];
  readonly #runSpecs: Pickled[] = [];
  #flags: Uint8Array = new Uint8Array(0);
  #annotationOf: Int32Array | undefined;
  readonly #buffers: Uint8Array[] = [];

  /** @throws {ProtocolError} where the columns of a chunk do not fit together. */
  add(chunk: Message): void {
    const keys = chunk.keys as readonly Key[];
    const first = chunk.first as number;
    if (first !== this.#keys.length) throw new ProtocolError(`a graph chunk from ${first}, not ${this.#keys.length}`);
    if (first === 0) {
      this.#total = chunk.total as number;
      this.#flags = new Uint8Array(this.#total);
    }
    for (const key of keys) {
      this.#keys.push(key);
      this.#ids.push(keyId(key));
    }
    this.#flags.set(chunk.flags as Uint8Array, first);
    this.#addDependencies(ints(chunk.dep_counts), ints(chunk.deps), keys.length);
    this.#addRunSpecs(chunk, keys.length);
    if (chunk.annotation_of instanceof Uint8Array) {
      this.#annotationOf ??= new Int32Array(this.#total).fill(-1);
      this.#annotationOf.set(ints(chunk.annotation_of), first);
    }
  }

  #addDependencies(counts: Int32Array, flat: Int32Array, n: number): void {
    if (counts.length !== n) throw new ProtocolError("a graph chunk whose columns have different lengths");
    let at = 0;
    for (const count of counts) {
      if (count === 0) {
        this.#dependencies.push(NO_DEPENDENCIES);
        continue;
      }
      const list: number[] = [];
      for (let i = 0; i < count; i++) list.push(flat[at++] as number);
      this.#dependencies.push(list);
    }
    if (at !== flat.length) throw new ProtocolError("a graph chunk whose dependencies do not add up");
  }

  #addRunSpecs(chunk: Message, n: number): void {
    const specs = chunk.specs as Uint8Array;
    const ends = ints(chunk.spec_ends);
    if (ends.length !== n) throw new ProtocolError("a graph chunk whose columns have different lengths");
    for (const buffer of chunk.buffers as readonly Pickled[]) this.#buffers.push(buffer.frames[0] as Uint8Array);
    const framesOf = new Map<number, Uint8Array[]>();
    for (const [task, ...buffers] of chunk.with_buffers as readonly number[][]) {
      framesOf.set(
        task as number,
        buffers.map((number) => this.#buffers[number] as Uint8Array),
      );
    }
    let start = 0;
    for (let i = 0; i < n; i++) {
      const end = (ends[i] as number) >>> 0;
      const frames = framesOf.size === 0 ? NO_FRAMES : (framesOf.get((chunk.first as number) + i) ?? NO_FRAMES);
      this.#runSpecs.push(new Pickled(specs.subarray(start, end), frames));
      start = end;
    }
  }

  /** @throws {ProtocolError} where chunks are missing. */
  finish(reply: Message): Graph {
    if (this.#keys.length !== reply.total) {
      throw new ProtocolError(`a graph of ${reply.total} tasks came with ${this.#keys.length}`);
    }
    const externalKeys = reply.external as readonly Key[];
    const { annotations, span_metadata: metadata } = reply;
    return {
      keys: this.#keys,
      ids: this.#ids,
      dependencies: this.#dependencies,
      externalKeys,
      externalIds: externalKeys.map(keyId),
      runSpecs: this.#runSpecs,
      flags: this.#flags,
      annotationSets: reply.annotation_sets as readonly ReadonlyMap<Value, Value>[],
      ...(annotations instanceof Map && annotations.size > 0 ? { annotations } : {}),
      annotationOf: this.#annotationOf,
      code: reply.code as readonly Value[],
      spanMetadata: metadata instanceof Map ? metadata : NO_METADATA,
    };
  }
}

/** int32 in this machine's byte order; the bytes lie anywhere in a message, so they are copied to an aligned place. */
function ints(value: Value | undefined): Int32Array {
  if (!(value instanceof Uint8Array)) throw new ProtocolError("a graph chunk without one of its columns");
  const copy = new Uint8Array(value.byteLength);
  copy.set(value);
  return new Int32Array(copy.buffer);
}
