/** distributed.scheduler.ClientState. */
import type { Value } from "@dask-ts/protocol";
import type { TaskState } from "./task-state.ts";

export class ClientState {
  readonly client: string;
  /** False for pseudo clients (`fire-and-forget`, `queue-…`): they get no messages. */
  readonly connected: boolean;
  readonly wantsWhat: Set<TaskState> = new Set();
  /** Seconds. */
  lastSeen: number;
  readonly versions: Value;

  constructor(client: string, connected: boolean, now: number, versions: Value = new Map()) {
    this.client = client;
    this.connected = connected;
    this.lastSeen = now;
    this.versions = versions;
  }
}
