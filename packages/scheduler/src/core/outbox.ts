/**
 * What the core wants done. The core only ever records here; the shell takes it after each event and does it.
 * Messages keep their order per peer; client messages of one event go out before worker messages (as
 * Scheduler.send_all does).
 */
import type { Key, Message, Value } from "@dask-ts/protocol";

/** Messages for one event, or for a batch of events, in order. */
export class Outbox {
  readonly toClients: Map<string, Message[]> = new Map();
  readonly toWorkers: Map<string, Message[]> = new Map();
  /** (topic, message): to be logged and published to subscribers (Scheduler.log_event). */
  readonly events: [topic: string, message: Value][] = [];
  /** Workers whose stream must be closed (they were removed). */
  readonly closeWorkers: string[] = [];
  /** Lines for the log: level and text. */
  readonly logs: [level: "debug" | "info" | "warn" | "error", text: string][] = [];

  /** The latest `free-keys` of each worker, for as long as its keys may still grow. */
  private readonly freeing: Map<string, { readonly message: Message; readonly keys: Key[] }> = new Map();

  client(client: string, message: Message): void {
    push(this.toClients, client, message);
  }
  worker(address: string, message: Message): void {
    push(this.toWorkers, address, message);
  }
  /**
   * `free-keys`. Keys that one event frees one after the other share a message: the worker takes them as one event too,
   * and a client that lets go of ten thousand futures does not cost ten thousand messages.
   */
  freeKey(address: string, key: Key, stimulusId: string): void {
    const list = this.toWorkers.get(address);
    const open = this.freeing.get(address);
    if (open !== undefined && list?.at(-1) === open.message && open.message["stimulus_id"] === stimulusId) {
      open.keys.push(key);
      return;
    }
    const keys = [key];
    const message = { op: "free-keys", keys, stimulus_id: stimulusId };
    this.freeing.set(address, { message, keys });
    this.worker(address, message);
  }
  /** Ahead of what the worker was to get before; for messages that end something which others begin anew. */
  workerFirst(address: string, message: Message): void {
    const list = this.toWorkers.get(address);
    if (list === undefined) this.toWorkers.set(address, [message]);
    else list.unshift(message);
  }
  event(topic: string, message: Value): void {
    this.events.push([topic, message]);
  }
  closeWorker(address: string): void {
    this.closeWorkers.push(address);
  }
  log(level: "debug" | "info" | "warn" | "error", text: string): void {
    this.logs.push([level, text]);
  }
  get empty(): boolean {
    return (
      this.toClients.size === 0 &&
      this.toWorkers.size === 0 &&
      this.events.length === 0 &&
      this.closeWorkers.length === 0 &&
      this.logs.length === 0
    );
  }
  clear(): void {
    this.toClients.clear();
    this.toWorkers.clear();
    this.freeing.clear();
    this.events.length = 0;
    this.closeWorkers.length = 0;
    this.logs.length = 0;
  }
}

function push(map: Map<string, Message[]>, to: string, message: Message): void {
  const list = map.get(to);
  if (list === undefined) map.set(to, [message]);
  else list.push(message);
}
