/** The last events that the state machine was told, for dumps (`WorkerState.stimulus_log`). */
import { float, type Message, type Value } from "@dask-ts/protocol";
import type { WorkerEvent } from "../core/events.ts";

/** Stock's class for each kind of event. */
const CLASSES: { readonly [kind in WorkerEvent["kind"]]: string } = {
  "compute-task": "ComputeTaskEvent",
  "free-keys": "FreeKeysEvent",
  "free-keys-rpc": "FreeKeysEvent",
  "remove-replicas": "RemoveReplicasEvent",
  "acquire-replicas": "AcquireReplicasEvent",
  "steal-request": "StealRequestEvent",
  "refresh-who-has": "RefreshWhoHasEvent",
  "remove-worker": "RemoveWorkerEvent",
  "cancel-compute": "CancelComputeEvent",
  "gather-success": "GatherDepSuccessEvent",
  "gather-busy": "GatherDepBusyEvent",
  "gather-network-failure": "GatherDepNetworkFailureEvent",
  "gather-failure": "GatherDepFailureEvent",
  "execute-success": "ExecuteSuccessEvent",
  "execute-failure": "ExecuteFailureEvent",
  reschedule: "RescheduleEvent",
  recalled: "RecalledEvent",
  secede: "SecedeEvent",
  "update-data": "UpdateDataEvent",
  pause: "PauseEvent",
  unpause: "UnpauseEvent",
  "retry-busy-worker": "RetryBusyWorkerEvent",
  "find-missing": "FindMissingEvent",
};

/** What of an event is kept: nothing that holds a value or a run_spec. */
interface Stimulus {
  readonly kind: WorkerEvent["kind"];
  readonly stimulusId: Value;
  /** A key, keys, or a worker. */
  readonly about: Value;
  readonly handled: number;
}

export class StimulusLog {
  readonly #capacity: number;
  readonly #ring: Stimulus[] = [];
  #next = 0;

  /** @param capacity `distributed.admin.low-level-log-length` */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** @param now scheduler time in seconds. */
  add(event: WorkerEvent, now: number): void {
    if (event.kind === "find-missing" || this.#capacity === 0) return;
    const fields = ("message" in event ? event.message : event) as Message;
    const stimulusId = fields["stimulus_id"] ?? fields["stimulusId"] ?? null;
    const about = fields["key"] ?? fields["keys"] ?? fields["worker"] ?? null;
    this.#ring[this.#next] = { kind: event.kind, stimulusId, about, handled: now };
    this.#next = (this.#next + 1) % this.#capacity;
  }

  /** Oldest first; each in the shape of `StateMachineEvent._to_dict`. */
  toList(): Value {
    const ordered = [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)];
    return ordered.map(({ kind, stimulusId, about, handled }) => {
      const out = new Map<Value, Value>([
        ["cls", CLASSES[kind]],
        ["stimulus_id", stimulusId],
        ["handled", float(handled)],
      ]);
      if (about !== null) out.set(nameOf(kind, about), about instanceof Set ? [...about] : about);
      return out;
    });
  }
}

function nameOf(kind: Stimulus["kind"], about: Value): string {
  if (kind.startsWith("gather-") || kind === "remove-worker" || kind === "retry-busy-worker") return "worker";
  return (Array.isArray(about) && /^(free|remove|acquire)/.test(kind)) || about instanceof Set ? "keys" : "key";
}
