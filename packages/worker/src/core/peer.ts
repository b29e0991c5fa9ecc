/** Another worker, as far as this one has to do with it. Stands for one entry each of `has_what`, `data_needed`, `in_flight_workers`, `busy_workers`. */
import { PriorityHeap } from "./priority-heap.ts";
import type { TaskState } from "./task-state.ts";

export class Peer {
  readonly address: string;
  /** On another host than this worker. */
  readonly remote: boolean;
  /** Tasks that we care about and that it is believed to hold. */
  readonly hasWhat: Set<TaskState> = new Set();
  /** Of these, the ones in state fetch. */
  readonly needed: PriorityHeap<TaskState> = new PriorityHeap();
  /** The tasks of the transfer that is under way; null where there is none. */
  inFlight: readonly TaskState[] | null = null;
  /** It answered `busy` and is left alone for a while. */
  busy = false;

  constructor(address: string, ownAddress: string) {
    this.address = address;
    this.remote = addressHost(address) !== addressHost(ownAddress);
  }

  /** Nothing refers to it: it can be forgotten. */
  get idle(): boolean {
    return this.hasWhat.size === 0 && this.needed.size === 0 && this.inFlight === null && !this.busy;
  }
}

/** The host of `scheme://host:port`; only compared, never connected to. */
function addressHost(address: string): string {
  const start = address.indexOf("://");
  const from = start < 0 ? 0 : start + 3;
  const end = address.lastIndexOf(":");
  return end > from ? address.slice(from, end) : address.slice(from);
}
