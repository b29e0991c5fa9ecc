/** `/eventstream`: what happens in the cluster, as JSON over a WebSocket (distributed.diagnostics.websocket). */
import { createHash } from "node:crypto";
import {
  acceptTextSocket,
  formatKey,
  HttpError,
  type HttpRoute,
  isKey,
  isMessage,
  keySplit,
  type Message,
  type TextSocket,
  type Value,
} from "@dask-ts/protocol";
import type { TransitionListener } from "../core/hooks.ts";
import type { SchedulerContext } from "../server/context.ts";
import { toJson } from "../server/scheduler-file.ts";

export function eventStreamRoutes(ctx: SchedulerContext): HttpRoute[] {
  const stream = new EventStream(ctx);
  return [
    {
      path: "eventstream",
      handle: () => {
        throw new HttpError(400, 'Can "Upgrade" only to "WebSocket".');
      },
      upgrade: (request, socket, head) => {
        if (stream.isFull) throw new HttpError(503, "too many event streams are open");
        acceptTextSocket(request, socket, head, (peer) => {
          stream.add(peer);
          return {
            onText: (text) => onText(peer, text),
            onClose: () => stream.remove(peer),
            onSlow: (bytes) => ctx.log.warning(`An event stream is cut off: ${bytes} bytes wait for its client`),
          };
        });
      },
    },
  ];
}

/** `{"name": "ping"}` is all that a client says. */
function onText(peer: TextSocket, text: string): void {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return;
  }
  if (typeof message !== "object" || message === null || !("name" in message) || message.name !== "ping") return;
  const timestamp = new Date().toISOString().replace("T", " ").replace("Z", "000");
  peer.send(JSON.stringify({ timestamp, name: "pong" }));
}

/** Open streams at most; each costs time for every task that finishes. */
const MAX_STREAMS = 64;

/** Listens to the core while somebody listens here. */
class EventStream {
  readonly #ctx: SchedulerContext;
  readonly #peers: Set<TextSocket> = new Set();
  readonly #unsent: string[] = [];

  constructor(ctx: SchedulerContext) {
    this.#ctx = ctx;
  }

  get isFull(): boolean {
    return this.#peers.size >= MAX_STREAMS;
  }

  add(peer: TextSocket): void {
    // What happened before is no news to it.
    this.#flush();
    for (const worker of this.#ctx.core.state.workers.keys()) peer.send(JSON.stringify({ worker, name: "add_worker" }));
    if (this.#peers.size === 0) this.#listen();
    this.#peers.add(peer);
  }

  remove(peer: TextSocket): void {
    if (this.#peers.delete(peer) && this.#peers.size === 0) this.#unlisten();
  }

  #listen(): void {
    const { listeners } = this.#ctx.core;
    listeners.transition.push(this.#onTransition);
    listeners.addWorker.push(this.#onAddWorker);
    listeners.removeWorker.push(this.#onRemoveWorker);
    listeners.addClient.push(this.#onAddClient);
    listeners.removeClient.push(this.#onRemoveClient);
    listeners.updateGraph.push(this.#onUpdateGraph);
    listeners.restart.push(this.#onRestart);
  }

  #unlisten(): void {
    const { listeners } = this.#ctx.core;
    remove(listeners.transition, this.#onTransition);
    remove(listeners.addWorker, this.#onAddWorker);
    remove(listeners.removeWorker, this.#onRemoveWorker);
    remove(listeners.addClient, this.#onAddClient);
    remove(listeners.removeClient, this.#onRemoveClient);
    remove(listeners.updateGraph, this.#onUpdateGraph);
    remove(listeners.restart, this.#onRestart);
  }

  /** Called inside events of the core, which do no IO: it goes out in the next turn. */
  #send(data: Readonly<Record<string, unknown>>): void {
    if (this.#unsent.length === 0) setImmediate(() => this.#flush());
    this.#unsent.push(JSON.stringify(data));
  }

  #flush(): void {
    for (const text of this.#unsent.splice(0)) for (const peer of this.#peers) peer.send(text);
  }

  readonly #onRestart = (): void => this.#send({ name: "restart" });
  readonly #onAddWorker = ({ address }: { readonly address: string }): void =>
    this.#send({ worker: address, name: "add_worker" });
  readonly #onRemoveWorker = ({ address }: { readonly address: string }): void =>
    this.#send({ worker: address, name: "remove_worker" });
  readonly #onAddClient = (client: string): void => this.#send({ client, name: "add_client" });
  readonly #onRemoveClient = (client: string): void => this.#send({ client, name: "remove_client" });
  readonly #onUpdateGraph = (client: string): void => this.#send({ client, name: "update_graph" });

  /** One message for each thing that the worker timed of the task. */
  readonly #onTransition: TransitionListener = (ts, _start, _finish, { message, stimulusId }) => {
    const startstops = message?.["startstops"];
    if (message === undefined || !Array.isArray(startstops)) return;
    const worker = ts.whoHas.items.at(-1)?.address ?? [...(ts.erredOn ?? [])].at(-1) ?? null;
    const common: Record<string, unknown> = { worker };
    for (const [name, value] of Object.entries(message)) {
      if (name !== "op" && name !== "startstops" && isPlain(value)) common[name] = toJson(value);
    }
    for (const one of startstops as readonly Value[]) {
      const fields = fieldsOf(one);
      const action = String(fields.get("action"));
      this.#send({
        ...common,
        key: toJson(ts.key),
        stimulus_id: stimulusId,
        startstops: toJson(startstops),
        color: colorOf(action, message, isKey(ts.key) ? keySplit(ts.key) : formatKey(ts.key)),
        ...Object.fromEntries([...fields].map(([name, value]) => [String(name), toJson(value)])),
        name: "transition",
      });
    }
  };
}

function fieldsOf(startstop: Value): ReadonlyMap<Value, Value> {
  if (startstop instanceof Map) return startstop;
  return new Map(isMessage(startstop) ? Object.entries(startstop).map(([name, value]) => [name, value ?? null]) : []);
}

/** What JSON can say; pickles and other bytes are left out, as in stock. */
function isPlain(value: Value | undefined): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (value instanceof Uint8Array) return false;
  return value instanceof Map || Array.isArray(value) || value instanceof Set || typeof toJson(value) === "number";
}

function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}

/** task_stream.colors: what is no computing has a colour of its own. */
const COLORS: Readonly<Record<string, string>> = {
  transfer: "red",
  "disk-write": "orange",
  "disk-read": "orange",
  deserialize: "gray",
};

/** Viridis in 18 steps (distributed.utils.palette). */
const PALETTE: readonly string[] = [
  "#440154",
  "#471669",
  "#472A79",
  "#433C84",
  "#3C4D8A",
  "#355D8C",
  "#2E6C8E",
  "#287A8E",
  "#23898D",
  "#1E978A",
  "#20A585",
  "#2EB27C",
  "#45BF6F",
  "#64CB5D",
  "#88D547",
  "#AFDC2E",
  "#D7E219",
  "#FDE724",
];

function colorOf(action: string, message: Message, prefix: string): string {
  const fixed = COLORS[action];
  if (fixed !== undefined) return fixed;
  if (message["status"] !== "OK") return "black";
  return PALETTE[createHash("md5").update(prefix).digest().readUInt32BE(0) % PALETTE.length] ?? "black";
}
