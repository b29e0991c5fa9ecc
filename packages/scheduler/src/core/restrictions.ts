/** Where a task may run. One object is shared by all tasks of one annotation set, with its last answer. */
import type { Value } from "@dask-ts/protocol";
import type { WorkerState } from "./worker-state.ts";

export class Restrictions {
  /** Worker addresses (TaskState.worker_restrictions). */
  readonly workers: ReadonlySet<string> | null;
  /** Host names or addresses, or aliases of workers (TaskState.host_restrictions). */
  readonly hosts: ReadonlySet<string> | null;
  /** Amount of each resource (TaskState.resource_restrictions). */
  readonly resources: ReadonlyMap<string, number> | null;
  /** The same as the annotation had them, for `compute-task`. */
  readonly resourcesOnWire: ReadonlyMap<Value, Value> | null;
  /** TaskState.loose_restrictions: any worker will do where none of the above can. */
  readonly loose: boolean;

  /** The valid workers as of {@link validEpoch}; see placement.validWorkers. */
  valid: ReadonlySet<WorkerState> | null = null;
  validEpoch = -1;

  constructor(
    workers: ReadonlySet<string> | null,
    hosts: ReadonlySet<string> | null,
    resources: ReadonlyMap<string, number> | null,
    loose: boolean,
    resourcesOnWire: ReadonlyMap<Value, Value> | null = null,
  ) {
    this.workers = workers;
    this.hosts = hosts;
    this.resources = resources;
    this.resourcesOnWire = resourcesOnWire ?? resources;
    this.loose = loose;
  }

  /** True where any of them limits the choice (loose alone does not). */
  get limits(): boolean {
    return this.workers !== null || this.hosts !== null || this.resources !== null;
  }
}
