/** Progress of a set of tasks (distributed.diagnostics.progress: Progress, and MultiProgress by groups). */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { TransitionListener } from "../core/hooks.ts";
import type { SchedulerCore } from "../core/scheduler-core.ts";
import type { TaskState } from "../core/task-state.ts";
import { State } from "../core/task-status.ts";

/** How tasks are grouped: not at all, by prefix, by span, or by a function that says the group of each key. */
export type GroupBy = null | "prefix" | "spans" | ((keys: readonly Key[]) => Promise<readonly Value[]>);

interface Group {
  readonly name: Value;
  all: number;
  remaining: number;
}

interface Tracked {
  readonly group: Group;
  done: boolean;
}

export class Progress {
  readonly keys: readonly Key[];
  readonly #core: SchedulerCore;
  /** Count tasks that were finished before as well. */
  readonly #complete: boolean;
  readonly #groupBy: GroupBy;
  readonly #tracked: Map<string, Tracked> = new Map();
  readonly #groups: Map<string, Group> = new Map();
  #remaining = 0;
  #status: "error" | "finished" | null = null;
  #failure: { readonly exception: Value; readonly key: Value } | undefined;

  constructor(core: SchedulerCore, keys: readonly Key[], complete: boolean, groupBy: GroupBy) {
    this.#core = core;
    this.keys = keys;
    this.#complete = complete;
    this.#groupBy = groupBy;
  }

  /** Looks at the tasks and what they depend on, and follows them from now on. All keys must be known. */
  async start(): Promise<void> {
    const wanted = this.keys.flatMap((key) => this.#core.state.taskOf(key as Value) ?? []);
    const all = dependentTasks(wanted, this.#complete);
    for (const ts of wanted) all.add(ts);
    const groups = await this.#groupsOf([...all]);
    // What is behind a finished task is not computed again, whether its data is still somewhere or not.
    const open = dependentTasks(wanted, false);
    for (const [ts, name] of groups) {
      const id = keyId(name);
      const group = this.#groups.get(id) ?? { name, all: 0, remaining: 0 };
      this.#groups.set(id, group);
      // Erred tasks count as open, so that the bar does not show them as done.
      const done = !open.has(ts) && ts.code !== State.erred;
      group.all++;
      if (!done) {
        group.remaining++;
        this.#remaining++;
      }
      this.#tracked.set(ts.id, { group, done });
    }
    this.#core.listeners.transition.push(this.#onTransition);
    const erred = [...groups.keys()].find((ts) => ts.code === State.erred);
    if (erred !== undefined) this.#fail(erred);
    else if (this.#remaining === 0) this.#finish();
  }

  /** What the progress bar draws: numbers, or numbers by group. */
  report(): Message {
    const grouped = this.#groupBy !== null;
    const groups = [...this.#groups.values()];
    const message: Message = {
      all: grouped ? new Map(groups.map((g) => [g.name, g.all])) : this.#tracked.size,
      remaining: grouped ? new Map(groups.map((g) => [g.name, g.remaining])) : this.#remaining,
      status: this.#status,
    };
    if (this.#failure !== undefined) Object.assign(message, this.#failure);
    return message;
  }

  stop(): void {
    const { transition } = this.#core.listeners;
    const at = transition.indexOf(this.#onTransition);
    if (at >= 0) transition.splice(at, 1);
  }

  async #groupsOf(tasks: readonly TaskState[]): Promise<Map<TaskState, Value>> {
    const by = this.#groupBy;
    if (typeof by !== "function") return new Map(tasks.map((ts) => [ts, this.#groupName(ts, by)]));
    const names = await by(tasks.map((ts) => ts.key));
    return new Map(tasks.map((ts, i) => [ts, names[i] ?? null]));
  }

  #groupName(ts: TaskState, by: "prefix" | "spans" | null): Value {
    if (by !== "spans") return by === "prefix" ? ts.prefix.name : null;
    const { spanId } = ts.group;
    // Scattered data belongs to no span.
    return [spanId === null ? "" : (this.#core.spans?.labelOf(spanId) ?? spanId), spanId];
  }

  readonly #onTransition: TransitionListener = (ts, start, finish) => {
    if (this.#status !== null) return;
    const tracked = this.#tracked.get(ts.id);
    if (tracked === undefined) return;
    if (finish === State.erred) this.#fail(ts);
    else if (start === State.processing && finish === State.memory && !tracked.done) {
      tracked.done = true;
      tracked.group.remaining--;
      if (--this.#remaining === 0) this.#finish();
    } else if (finish === State.forgotten && !tracked.done) this.#fail(ts);
  };

  #finish(): void {
    this.#status = "finished";
  }

  #fail(ts: TaskState): void {
    this.#status = "error";
    this.#failure = { exception: ts.error?.exception ?? null, key: ts.key as Value };
  }
}

/** All tasks that must be computed for these to finish; with `complete` also those that are finished. */
function dependentTasks(tasks: readonly TaskState[], complete: boolean): Set<TaskState> {
  const found = new Set<TaskState>();
  const stack = [...tasks];
  for (let ts = stack.pop(); ts !== undefined; ts = stack.pop()) {
    if (found.has(ts) || (!complete && ts.whoHas.size > 0)) continue;
    if (ts.error !== null && !complete) continue;
    found.add(ts);
    stack.push(...ts.dependencies.items);
  }
  return found;
}
