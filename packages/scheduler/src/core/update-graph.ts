/**
 * Scheduler.update_graph from the opened graph on: lost dependencies, task states, annotations, priorities, links,
 * first transitions. Dask does this in one go; here it pauses every few thousand tasks, so that a graph of a million
 * tasks does not keep a heartbeat waiting. What makes the pauses safe:
 *
 * - every task that the graph touches is pinned (`TaskState.pins`), which counts as being wanted, until the end;
 * - a new task gets its run_spec together with its links, and nothing without run_spec is ever started;
 * - one graph at a time: a second one could start tasks of the first before they are linked.
 */
import { asNumber, formatKey, type Key, keyId, type Value } from "@dask-ts/protocol";
import { type AnnotationEffects, readAnnotations } from "./annotations.ts";
import type { UpdateGraphRequest, UpdateGraphResult } from "./api.ts";
import type { ClientState } from "./client-state.ts";
import { type Computation, currentComputation } from "./computation.ts";
import type { Context } from "./context.ts";
import { beginEvent } from "./event.ts";
import { FewSet } from "./few-set.ts";
import { type Graph, TaskFlag } from "./graph.ts";
import { clientReleasesKeys, desire, startIfReleased } from "./handlers/client-keys.ts";
import { order } from "./order.ts";
import { sortByPriority } from "./priority-sort.ts";
import { queueSlotsMaybeOpened } from "./queue-slots.ts";
import { reportTask, reportToClient } from "./report.ts";
import type { TaskGroup } from "./task-group.ts";
import { State } from "./task-status.ts";
import type { TaskState } from "./task-state.ts";
import { recommendUnwanted } from "./transitions/common.ts";
import { drain } from "./transitions/engine.ts";

/** Values of `TaskState.pins`: touched by the graph under way; and to be started by it. */
const PINNED = 1;
const NEEDED = 2;

type Steps<T> = Generator<undefined, T, number>;

export function* updateGraph(ctx: Context, request: UpdateGraphRequest, now: number): Steps<UpdateGraphResult> {
  const { state } = ctx;
  if (state.graphUnderWay) throw new Error("another update-graph is under way");
  state.graphUnderWay = true;
  state.activeGraphUpdates++;
  const update = new GraphUpdate(ctx, request, now);
  try {
    return yield* update.run();
  } finally {
    update.unpinRest();
    state.graphUnderWay = false;
    state.activeGraphUpdates--;
  }
}

class GraphUpdate {
  private readonly ctx: Context;
  private readonly request: UpdateGraphRequest;
  private readonly graph: Graph;
  private readonly stimulusId: string;
  private readonly start: number;
  private readonly cs: ClientState | undefined;
  private now: number;
  private work = 0;

  /** Task of each number of the graph; and the external ones. */
  private readonly nodes: (TaskState | undefined)[] = [];
  private readonly external: (TaskState | undefined)[] = [];
  /** Where it matters: 1 for each task of the graph that the wanted keys need. */
  private reachable: Uint8Array | undefined;
  /** Tasks touched and still pinned, in the order they were touched. */
  private readonly pinned: TaskState[] = [];
  private unpinned = 0;
  private newTasks = 0;
  /** Numbers of tasks that were known without a run_spec. */
  private readonly lateSpecs: number[] = [];
  private readonly collided: Set<number> = new Set();
  /** Touched tasks that existed before. */
  private readonly existing: TaskState[] = [];
  /** Tasks with a dependency that has erred. */
  private readonly blamed: Set<TaskState> = new Set();
  private readonly isNew: Uint8Array;
  private readonly wanted: TaskState[] = [];

  constructor(ctx: Context, request: UpdateGraphRequest, now: number) {
    this.ctx = ctx;
    this.request = request;
    this.graph = request.graph;
    this.now = now;
    this.start = request.start ?? now;
    this.stimulusId = request.stimulusId ?? `update-graph-${this.start}`;
    this.cs = ctx.state.clients.get(request.client);
    const n = this.graph.keys.length;
    this.isNew = new Uint8Array(n);
    beginEvent(ctx, this.stimulusId, now);
  }

  *run(): Steps<UpdateGraphResult> {
    const { ctx, graph } = this;
    if (this.clientGone) return { status: "abandoned" };
    const lost = this.pinExternal();
    if (lost.length > 0) return this.cancel(lost);
    const ordered = this.now;
    const computation = this.computation();
    yield* this.createTasks(computation);
    yield* this.linkTasks();
    this.addLateSpecs();
    // Or its keys would be kept for a client that is no more.
    if (this.clientGone) return { status: "abandoned" };
    const missing = yield* this.desireKeys();
    if (this.clientGone) return { status: "abandoned" };
    if (missing.length > 0) return this.cancel(missing);
    this.markActors();
    yield* this.observeSpans();
    if (this.clientGone) return { status: "abandoned" };
    for (const listener of ctx.listeners.updateGraph) listener(this.request.client, this.request.keys, this.pinned);
    const known = this.existing.filter((ts) => ts.code === State.memory || ts.code === State.erred);
    this.logEvent(ordered);

    this.recommendErred();
    drain(ctx);
    yield* this.startWanted();
    // Dask tells the submitting client too where it does not want the task: a future whose own graph could not be opened
    // would then seem finished, and nobody would say when the data is lost.
    for (const ts of known) reportTask(ctx, ts, null);
    const touched = this.pinned.length;
    yield* this.unpin();
    queueSlotsMaybeOpened(ctx);
    if (this.clientGone) return { status: "abandoned" };
    ctx.outbox.log("debug", `Task state created. ${this.newTasks} new tasks of ${graph.keys.length}`);
    return { status: "OK", newTasks: this.newTasks, touched, collisions: this.collided.size };
  }

  /** Lets other events in after each few thousand steps. */
  private *pause(): Steps<void> {
    this.work = 0;
    // What was let go of so far has left its worker.
    queueSlotsMaybeOpened(this.ctx);
    this.now = yield;
    beginEvent(this.ctx, this.stimulusId, this.now);
  }

  /** Pauses wherever the work does that it is given. */
  private *pausing<T>(work: Generator<undefined, T, unknown>): Steps<T> {
    let step = work.next();
    for (; !step.done; step = work.next()) yield* this.pause();
    return step.value;
  }

  /** Nobody waits for this graph any more: its client has left, or was told of a restart. */
  private get clientGone(): boolean {
    const { clients, restartedAt } = this.ctx.state;
    return this.cs === undefined || clients.get(this.request.client) !== this.cs || this.start < restartedAt;
  }

  private pin(ts: TaskState): void {
    ts.pins = PINNED;
    this.pinned.push(ts);
  }

  /** Scheduler._find_lost_dependencies: what the wanted keys need and nobody knows. */
  private pinExternal(): Key[] {
    const { graph, ctx } = this;
    const n = graph.keys.length;
    const lost: Key[] = [];
    for (let i = 0; i < graph.externalKeys.length; i++) {
      const ts = ctx.state.tasks.get(graph.externalIds[i] as string);
      if (ts === undefined) lost.push(graph.externalKeys[i] as Key);
      else {
        this.external[i] = ts;
        this.pin(ts);
        this.existing.push(ts);
      }
    }
    if (lost.length === 0) return lost;
    // Perhaps only tasks that no wanted key needs depend on it.
    this.reachable = reachableTasks(graph, this.request.keys);
    const needed: Key[] = [];
    for (let i = 0; i < n; i++) {
      if (this.reachable[i] === 0) continue;
      for (const d of graph.dependencies[i] as readonly number[]) {
        if (d >= n && this.external[d - n] === undefined) needed.push(graph.externalKeys[d - n] as Key);
      }
    }
    return needed;
  }

  private computation(): Computation {
    const { ctx, graph } = this;
    const computation = currentComputation(ctx.state, ctx.config.computationsMaxHistory, this.now);
    if (graph.code.length > 0) computation.addCode(graph.code);
    for (const [name, value] of this.request.annotations ?? graph.annotations ?? [])
      computation.annotations.set(name, value);
    return computation;
  }

  /** First half of Scheduler._generate_taskstates, _apply_annotations and _set_priorities. */
  private *createTasks(computation: Computation): Steps<void> {
    const { graph, ctx, nodes } = this;
    const { state } = ctx;
    const { tasksPerYield } = ctx.config;
    const n = graph.keys.length;
    const effects = this.annotationEffects();
    const rankOf = yield* this.ranks();
    const generation = this.generation();
    const userPriority = this.userPriorities();
    const warned = new Set<TaskGroup>();
    for (let i = 0; i < n; i++) {
      if (++this.work >= tasksPerYield) yield* this.pause();
      if (this.reachable !== undefined && this.reachable[i] === 0) {
        nodes.push(undefined);
        continue;
      }
      const id = graph.ids[i] as string;
      let ts = state.tasks.get(id);
      const effect = effects[(graph.annotationOf?.[i] ?? -1) + 1] as AnnotationEffects;
      if (ts === undefined) {
        ts = state.newTask(graph.keys[i] as Key, id, null, State.released, computation);
        this.isNew[i] = 1;
        this.newTasks++;
        ts.annotations = effect.annotations;
        ts.restrictions = effect.restrictions;
        ts.retries = effect.retries;
      } else {
        this.existing.push(ts);
        if (ts.runSpec === null) this.lateSpecs.push(i);
        else if (this.collides(ts, i)) {
          this.collided.add(i);
          if (!warned.has(ts.group)) {
            warned.add(ts.group);
            ctx.outbox.log("warn", collisionWarning(ts));
          }
        }
      }
      if (!ts.hasPriority) {
        const rank = rankOf(i);
        const annotated = priorityAnnotation(ts, effect);
        ts.hasPriority = true;
        // 0 - x, as -x would be -0 for the usual 0.
        ts.p0 = 0 - (annotated ?? userPriority(i));
        ts.p1 = generation;
        ts.p2 = rank;
      }
      nodes.push(ts);
      this.pin(ts);
    }
  }

  private annotationEffects(): AnnotationEffects[] {
    const { state } = this.ctx;
    const global = this.request.annotations ?? null;
    const result = [readAnnotations(state, global, null)];
    for (const set of this.graph.annotationSets) result.push(readAnnotations(state, global, set));
    return result;
  }

  /** Rank of the task with a number. Dask gives no priority to a key without rank; here it comes last. */
  private *ranks(): Steps<(i: number) => number> {
    const { graph } = this;
    const given = this.request.internalPriority;
    if (given === null || given.size === 0) {
      const ranks = yield* this.pausing(order(graph.dependencies));
      return (i) => ranks[i] as number;
    }
    let byId: Map<string, number> | undefined;
    return (i) => {
      const key = graph.keys[i] as Key;
      const rank = typeof key === "string" ? given.get(key) : undefined;
      if (rank !== undefined) return asNumber(rank, i);
      if (byId === undefined) {
        byId = new Map();
        for (const [k, v] of given) if (typeof k !== "string") byId.set(keyId(k), asNumber(v, given.size));
      }
      return byId.get(graph.ids[i] as string) ?? given.size + i;
    };
  }

  private generation(): number {
    const { state } = this.ctx;
    const { submittingTask, fifoTimeout } = this.request;
    if (submittingTask !== null) {
      const ts = state.taskOf(submittingTask);
      // Dask takes the first part of the submitting task's priority here, not its generation.
      return ts?.hasPriority ? ts.p0 - 0.01 : state.generation;
    }
    if (state.lastGenerationTime + fifoTimeout < this.start) {
      state.generation++;
      state.lastGenerationTime = this.start;
    }
    return state.generation;
  }

  private userPriorities(): (i: number) => number {
    const given = this.request.userPriority;
    if (typeof given === "number") return () => given;
    const byId = new Map<string, number>();
    for (const [key, value] of given) byId.set(keyId(key), asNumber(value, 0));
    return (i) => byId.get(this.graph.ids[i] as string) ?? 0;
  }

  private collides(ts: TaskState, i: number): boolean {
    const dependencies = this.graph.dependencies[i] as readonly number[];
    if (dependencies.length !== ts.dependencies.size) return true;
    const { ids, externalIds } = this.graph;
    if (dependencies.length === 0) return false;
    const known = new Set(ts.dependencies.items.map((dts) => dts.id));
    return dependencies.some((d) => !known.has((d < ids.length ? ids[d] : externalIds[d - ids.length]) as string));
  }

  /** Second half of _generate_taskstates. */
  private *linkTasks(): Steps<void> {
    const n = this.graph.keys.length;
    const { tasksPerYield } = this.ctx.config;
    for (let i = 0; i < n; i++) {
      if (++this.work >= tasksPerYield) yield* this.pause();
      if (this.isNew[i] === 1) this.link(i);
    }
  }

  private node(n: number): TaskState {
    const { nodes } = this;
    return (n < nodes.length ? nodes[n] : this.external[n - nodes.length]) as TaskState;
  }

  private addLateSpecs(): void {
    for (const i of this.lateSpecs) if ((this.nodes[i] as TaskState).code !== State.forgotten) this.link(i);
  }

  private link(i: number): void {
    const { graph, nodes } = this;
    const ts = nodes[i] as TaskState;
    const list = graph.dependencies[i] as readonly number[];
    if (list.length > 0) {
      const dependencies: TaskState[] = list.length === 1 ? [this.node(list[0] as number)] : [];
      if (list.length > 1) for (const d of list) dependencies.push(this.node(d));
      const group = ts.group;
      let lastGroup: TaskGroup | null = null;
      let alive = dependencies;
      for (const dts of dependencies) {
        if (dts.code === State.forgotten) {
          ts.hasLostDependencies = true;
          if (alive === dependencies) alive = dependencies.filter((other) => other.code !== State.forgotten);
          continue;
        }
        if (dts.group !== lastGroup) {
          lastGroup = dts.group;
          group.dependencies.add(lastGroup);
        }
        dts.dependents = dts.dependents.plus(ts);
        if (dts.exceptionBlame !== null) this.blamed.add(ts);
      }
      ts.dependencies = new FewSet(alive);
    }
    ts.runSpec = graph.runSpecs[i] ?? null;
    ts.dataProducer = ((graph.flags[i] as number) & TaskFlag.dataProducer) !== 0;
  }

  /** Scheduler.client_desires_keys. @returns wanted keys that are neither in the graph nor known. */
  private *desireKeys(): Steps<Key[]> {
    const { ctx } = this;
    const missing: Key[] = [];
    const cs = this.cs as ClientState;
    for (const key of this.request.keys) {
      if (++this.work >= ctx.config.tasksPerYield) {
        yield* this.pause();
        if (this.clientGone) return missing;
      }
      const ts = ctx.state.tasks.get(keyId(key));
      if (ts === undefined) missing.push(key);
      else {
        desire(ctx, ts, cs);
        this.wanted.push(ts);
      }
    }
    return missing;
  }

  private markActors(): void {
    const { actors } = this.request;
    if (actors === null || actors === false) return;
    for (const key of actors === true ? this.request.keys : actors) {
      const ts = this.ctx.state.taskOf(key);
      if (ts !== undefined) ts.actor = true;
    }
  }

  private *observeSpans(): Steps<void> {
    const { spans } = this.ctx;
    if (spans === null) return;
    const observe = spans.observer(this.graph.spanMetadata, this.graph.code, this.now);
    for (const ts of this.pinned) {
      if (++this.work >= this.ctx.config.tasksPerYield) yield* this.pause();
      observe(ts);
    }
  }

  /** Tasks that depend on an erred one err at once. */
  private recommendErred(): void {
    for (const ts of this.existing) {
      for (const dts of ts.dependencies.items) if (dts.exceptionBlame !== null) this.blamed.add(ts);
    }
    for (const ts of this.blamed) {
      if (ts.code === State.memory || ts.code === State.erred || ts.code === State.forgotten) continue;
      for (const dts of ts.dependencies.items) {
        if (dts.exceptionBlame === null) continue;
        ts.exceptionBlame = dts.exceptionBlame;
        this.ctx.recs.set(ts, State.erred);
        break;
      }
    }
  }

  /**
   * released → waiting for all that the wanted tasks need, the most urgent first. Dask recommends the wanted tasks only
   * and lets the recommendations run through the graph, all in one go. Here the tasks to start are collected first, and
   * started one by one: as dependencies have better ranks than their dependents, no start sets off others, and there
   * can be a pause between any two. What finishes meanwhile is kept by its pin.
   */
  private *startWanted(): Steps<void> {
    const { ctx } = this;
    const { tasksPerYield } = ctx.config;
    const needed: TaskState[] = [];
    const stack: TaskState[] = [];
    for (const wanted of this.wanted) {
      if (wanted.pins === PINNED) stack.push(wanted);
      else if (wanted.pins === 0 && wanted.code === State.released) needed.push(wanted);
      for (let ts = stack.pop(); ts !== undefined; ts = stack.pop()) {
        if (++this.work >= tasksPerYield) yield* this.pause();
        if (ts.pins !== PINNED || ts.code !== State.released) continue;
        ts.pins = NEEDED;
        needed.push(ts);
        for (const dts of ts.dependencies.items) if (dts.pins === PINNED) stack.push(dts);
      }
    }
    for (const ts of yield* this.pausing(sortByPriority(needed))) {
      if (++this.work >= tasksPerYield) {
        yield* this.pause();
        if (this.clientGone) return;
      }
      if (ts.code !== State.released) continue;
      ctx.recs.set(ts, State.waiting);
      drain(ctx);
    }
  }

  /** What was kept only for this graph goes now. */
  private *unpin(): Steps<void> {
    const { ctx } = this;
    while (this.unpinned < this.pinned.length) {
      if (++this.work >= ctx.config.tasksPerYield) yield* this.pause();
      this.unpinNext();
    }
  }

  private unpinNext(): void {
    const ts = this.pinned[this.unpinned++] as TaskState;
    ts.pins = 0;
    if (ts.code === State.forgotten) return;
    // Another client may have begun to want it, while nothing could be started.
    if (ts.wanted) startIfReleased(this.ctx, ts);
    else recommendUnwanted(this.ctx, ts);
    if (!this.ctx.recs.empty) drain(this.ctx);
  }

  /** In one go: after cancelling, or when the update was given up halfway. */
  unpinRest(): void {
    if (this.unpinned === this.pinned.length) return;
    beginEvent(this.ctx, this.stimulusId, this.now);
    while (this.unpinned < this.pinned.length) this.unpinNext();
    queueSlotsMaybeOpened(this.ctx);
  }

  private cancel(lost: readonly Key[]): UpdateGraphResult {
    const { ctx, request } = this;
    const { client } = request;
    ctx.outbox.log(
      "info",
      `User asked for computation on lost data. Missing: ${lost
        .slice(0, 10)
        .map((key) => formatKey(key))
        .join(", ")}`,
    );
    reportToClient(ctx, client, {
      op: "cancelled-keys",
      keys: new Set(request.keys as readonly Value[]),
      reason: "lost dependencies",
    });
    clientReleasesKeys(ctx, request.keys, client);
    this.publish(
      new Map<Value, Value>([
        ["action", "update-graph"],
        ["stimulus_id", this.stimulusId],
        ["status", "cancelled"],
      ]),
    );
    return { status: "cancelled", lost };
  }

  private logEvent(ordered: number): void {
    const materialized = this.request.materialized ?? this.start;
    this.publish(
      new Map<Value, Value>([
        ["action", "update-graph"],
        ["stimulus_id", this.stimulusId],
        [
          "metrics",
          new Map<Value, Value>([
            ["tasks", this.graph.keys.length],
            ["new_tasks", this.newTasks],
            ["key_collisions", this.collided.size],
            ["start_timestamp_seconds", this.start],
            ["materialization_duration_seconds", materialized - this.start],
            ["ordering_duration_seconds", ordered - materialized],
            ["state_initialization_duration_seconds", this.now - ordered],
            ["duration_seconds", this.now - this.start],
          ]),
        ],
        ["status", "OK"],
      ]),
    );
  }

  private publish(event: Map<Value, Value>): void {
    this.ctx.outbox.event("scheduler", event);
    this.ctx.outbox.event(this.request.client, event);
  }
}

/** The annotation `priority` of the task itself: a task that existed before keeps its own annotations. */
function priorityAnnotation(ts: TaskState, effect: AnnotationEffects): number | null {
  if (ts.annotations === effect.annotations) return effect.priority;
  const own = ts.annotations?.get("priority");
  return own === undefined || own === null ? null : asNumber(own, 0);
}

function collisionWarning(ts: TaskState): string {
  return (
    `Detected different \`run_spec\` for key ${formatKey(ts.key)} between two consecutive calls to \`update_graph\`. ` +
    "This can cause failures and deadlocks down the line. Please ensure unique key names. If you are using a standard " +
    "dask collections, consider releasing all the data before resubmitting another computation. More details and " +
    `help can be found at https://github.com/dask/dask/issues/9888. Old task state: ${ts.state}`
  );
}

function reachableTasks(graph: Graph, keys: readonly Key[]): Uint8Array {
  const numbers = new Map<string, number>();
  for (let i = 0; i < graph.ids.length; i++) numbers.set(graph.ids[i] as string, i);
  const reachable = new Uint8Array(graph.ids.length);
  const stack: number[] = [];
  for (const key of keys) {
    const i = numbers.get(keyId(key));
    if (i !== undefined) stack.push(i);
  }
  for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
    if (i >= reachable.length || reachable[i] === 1) continue;
    reachable[i] = 1;
    for (const d of graph.dependencies[i] as readonly number[]) stack.push(d);
  }
  return reachable;
}
