/**
 * What happens in the scheduler, on its way to the hooks of SchedulerPlugins. Nothing is recorded for a hook that no
 * plugin has. Rows wait here while the plugin host is busy with the last ones, so that a plugin that blocks costs
 * memory up to a limit and nothing else.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";
import type { AddWorkerListener, RemoveClientListener, RemoveWorkerListener } from "../core/hooks.ts";
import type { TransitionListener, UpdateGraphListener } from "../core/hooks.ts";
import type { SchedulerCore } from "../core/scheduler-core.ts";
import type { TaskState } from "../core/task-state.ts";
import { State, stateName } from "../core/task-status.ts";

/** Rows that wait at most; further ones are dropped, with a line in the log. */
const MAX_ROWS = 200_000;
/** Rows of one message, and tasks of one part of a graph. */
const ROWS_A_MESSAGE = 2_000;

/** Hooks by their Python name. */
export type Hook =
  | "update_graph"
  | "restart"
  | "transition"
  | "add_worker"
  | "remove_worker"
  | "add_client"
  | "remove_client"
  | "valid_workers_downscaling"
  | "log_event";

interface GraphRow {
  readonly client: string;
  readonly keys: readonly Key[];
  readonly tasks: readonly TaskState[];
  readonly stimulusId: string;
}

type Row = readonly Value[] | GraphRow;

export interface PluginEventsOptions {
  readonly core: SchedulerCore;
  /** Hands rows to the plugin host; resolves when its hooks are done with them, or it died. */
  readonly send: (rows: readonly Value[]) => Promise<void>;
  readonly warn: (line: string) => void;
  /** Facts of a task that the scheduler is about to forget. */
  readonly lastFacts: (ts: TaskState) => Value;
}

export class PluginEvents {
  readonly #options: PluginEventsOptions;
  #hooks: ReadonlySet<string> = new Set();
  #rows: Row[] = [];
  #dropped = 0;
  #underWay = 0;
  #graphs: Promise<void> | undefined;
  #scheduled = false;

  constructor(options: PluginEventsOptions) {
    this.#options = options;
  }

  has(hook: Hook): boolean {
    return this.#hooks.has(hook);
  }

  /** The hooks that any plugin has now. */
  setHooks(hooks: readonly string[]): void {
    const { listeners } = this.#options.core;
    const before = this.#hooks;
    this.#hooks = new Set(hooks);
    this.#toggle(before, "transition", listeners.transition, this.#onTransition);
    this.#toggle(before, "update_graph", listeners.updateGraph, this.#onUpdateGraph);
    this.#toggle(before, "add_worker", listeners.addWorker, this.#onAddWorker);
    this.#toggle(before, "remove_worker", listeners.removeWorker, this.#onRemoveWorker);
    this.#toggle(before, "remove_client", listeners.removeClient, this.#onRemoveClient);
    this.#toggle(before, "restart", listeners.restart, this.#onRestart);
  }

  #toggle<T>(before: ReadonlySet<string>, hook: Hook, list: T[], listener: T): void {
    if (this.has(hook) === before.has(hook)) return;
    if (this.has(hook)) list.push(listener);
    else list.splice(list.indexOf(listener), 1);
  }

  addClient(client: string): void {
    if (this.has("add_client")) this.#push(["add_client", client]);
  }

  logEvent(topic: string, message: Value): void {
    if (this.has("log_event")) this.#push(["log_event", topic, message]);
  }

  readonly #onTransition: TransitionListener = (ts, start, finish, { stimulusId, message }) => {
    const row: Value[] = ["transition", ts.key, stateName(start), stateName(finish), stimulusId];
    const forgotten = finish === State.forgotten;
    if (message !== undefined || forgotten) row.push(message === undefined ? null : extraOf(message, ts, finish));
    if (forgotten) row.push(this.#options.lastFacts(ts));
    this.#push(row);
  };
  readonly #onUpdateGraph: UpdateGraphListener = (client, keys, tasks) => {
    this.#push({ client, keys, tasks: [...tasks], stimulusId: this.#options.core.stimulusId });
  };
  readonly #onAddWorker: AddWorkerListener = (ws) => this.#push(["add_worker", ws.address]);
  readonly #onRemoveWorker: RemoveWorkerListener = (ws, stimulusId) =>
    this.#push(["remove_worker", ws.address, stimulusId]);
  readonly #onRemoveClient: RemoveClientListener = (client) => this.#push(["remove_client", client]);
  readonly #onRestart = (): void => this.#push(["restart"]);

  #push(row: Row): void {
    if (this.#rows.length >= MAX_ROWS) {
      if (this.#dropped++ === 0) {
        this.#options.warn(
          `Scheduler plugins do not keep up: ${MAX_ROWS} events wait for them; further ones are dropped`,
        );
      }
      return;
    }
    this.#rows.push(row);
    if (this.#scheduled || this.#underWay > 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#underWay === 0) void this.flush();
    });
  }

  /** Hands over all that waits. Resolves when it is on its way, not when the plugins are done with it. */
  flush(): Promise<void> {
    this.#graphs ??= this.#flush().finally(() => {
      this.#graphs = undefined;
    });
    return this.#graphs;
  }

  async #flush(): Promise<void> {
    while (this.#rows.length > 0) {
      const rows = this.#rows;
      this.#rows = [];
      if (this.#dropped > 0) {
        this.#options.warn(`${this.#dropped} events for scheduler plugins were dropped`);
        this.#dropped = 0;
      }
      let page: Value[] = [];
      for (const row of rows) {
        if (Array.isArray(row)) page.push(row as Value);
        else {
          this.#send(page);
          page = [];
          await this.#sendGraph(row as GraphRow);
        }
        if (page.length < ROWS_A_MESSAGE) continue;
        this.#send(page);
        page = [];
        await turn();
      }
      this.#send(page);
    }
  }

  #send(rows: readonly Value[]): void {
    if (rows.length === 0) return;
    this.#underWay++;
    void this.#options.send(rows).finally(() => {
      if (--this.#underWay === 0 && this.#rows.length > 0) void this.flush();
    });
  }

  /** A graph of a million tasks goes over in parts, each in a turn of its own. */
  async #sendGraph({ client, keys, tasks, stimulusId }: GraphRow): Promise<void> {
    const parts = Math.max(keys.length, tasks.length);
    for (let from = 0; from < parts; from += ROWS_A_MESSAGE) {
      const some = tasks.slice(from, from + ROWS_A_MESSAGE);
      this.#send([
        [
          "update_graph_part",
          keys.slice(from, from + ROWS_A_MESSAGE),
          some.map((ts) => ts.key as Value),
          some.map((ts) => ts.priority),
          some.filter((ts) => ts.annotations !== null).map((ts) => [ts.key as Value, ts.annotations]),
        ],
      ]);
      if (from + ROWS_A_MESSAGE < parts) await turn();
    }
    this.#send([["update_graph", client, stimulusId]]);
  }

  /** The plugin host is gone, or the scheduler closes. */
  clear(): void {
    this.#rows = [];
    this.#dropped = 0;
  }
}

/** The keyword arguments that stock hands to `transition`: those of the message, without what has a place of its own. */
function extraOf(message: Message, ts: TaskState, finish: number): Map<Value, Value> {
  const extra = new Map<Value, Value>();
  for (const [name, value] of Object.entries(message)) {
    if (value !== undefined && !NOT_EXTRA.has(name)) extra.set(name, value);
  }
  if (!extra.has("worker")) {
    const worker = finish === State.erred ? [...(ts.erredOn ?? [])].at(-1) : ts.whoHas.items.at(-1)?.address;
    if (worker !== undefined) extra.set("worker", worker);
  }
  if (finish === State.erred) extra.set("cause", ts.key);
  return extra;
}

const NOT_EXTRA: ReadonlySet<string> = new Set(["op", "key", "run_id", "metadata", "stimulus_id"]);

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
