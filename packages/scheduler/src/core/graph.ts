/** The task graph of one `update-graph`, after the graph host has opened, materialised and culled it. */
import type { Key, Pickled, Value } from "@dask-ts/protocol";

/** Bits of {@link Graph.flags}. */
export const TaskFlag = {
  /** `GraphNode.data_producer`: the task reads or makes data (is_rootish). */
  dataProducer: 1,
  /** A `P2PBarrierTask`. */
  barrier: 2,
} as const;

export interface Graph {
  /** Keys of the tasks; position is the task's number in this graph. */
  readonly keys: readonly Key[];
  /** `keyId` of each key. */
  readonly ids: readonly string[];
  /**
   * For each task the numbers of its dependencies, without repeats. A number n ≥ keys.length means
   * `externalKeys[n - keys.length]`.
   */
  readonly dependencies: readonly (readonly number[])[];
  /** Dependencies that are not in the graph: tasks that the scheduler should know already. */
  readonly externalKeys: readonly Key[];
  readonly externalIds: readonly string[];
  /** For each task its pickled `GraphNode`, as `compute-task` carries it. */
  readonly runSpecs: readonly Pickled[];
  /** For each task bits of {@link TaskFlag}. */
  readonly flags: Uint8Array;
  /** The different annotation maps of the graph (already merged, callables applied). */
  readonly annotationSets: readonly ReadonlyMap<Value, Value>[];
  /** For each task its index in annotationSets, -1 for none; undefined where no task has any. */
  readonly annotationOf: Int32Array | undefined;
  /** What the whole graph was annotated with; the sets hold it too. */
  readonly annotations?: ReadonlyMap<Value, Value>;
  /** `code` of the message: arrays (code, lineno_frame, lineno_relative, filename). */
  readonly code: readonly Value[];
  /** `span_metadata` of the message. */
  readonly spanMetadata: ReadonlyMap<Value, Value>;
}
