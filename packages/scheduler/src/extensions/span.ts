/** A group of tasks that `distributed.span` names, and what can be told of it (distributed.spans.Span). */
import { Float, float, asNumber, keyId, type Value } from "@dask-ts/protocol";
import { type Code, codeId, sumStates } from "../core/computation.ts";
import type { TaskGroup } from "../core/task-group.ts";
import { noTasks, STATE_COUNT, State, TASK_STATES } from "../core/task-status.ts";

export type NthreadsHistory = readonly (readonly [time: number, nthreads: number])[];

/** A sum of a metric; `isFloat` as soon as one part was a float, as Python adds ints and floats. */
interface Sum {
  readonly key: readonly Value[];
  sum: number;
  isFloat: boolean;
}

/** What is left of groups whose tasks are all forgotten. */
interface Past {
  start: number;
  stop: number;
  forgotten: number;
  durationUs: number;
  nbytesTotal: number;
  readonly allDurationsUs: Map<string, number>;
}

/** Groups at which those that are forgotten are folded into one record for the first time. */
const FOLD_FROM = 256;
/** Different snippets, and collections, that a span keeps. */
const MAX_RECORDS = 1000;

export class Span {
  readonly name: readonly string[];
  readonly id: string;
  readonly parent: Span | null;
  /** Value of the annotation `span`; null for the default span. */
  readonly annotation: ReadonlyMap<Value, Value> | null;
  /** By creation. */
  readonly children: Span[] = [];
  /** Task groups that belong directly to this span, by creation; long forgotten ones are in {@link past}. */
  readonly groups: Set<TaskGroup> = new Set();
  /** When the span was first seen, seconds. */
  enqueued: number;
  /** `{"collections": […]}`; null where the client sent none. */
  metadata: Map<Value, Value> | null = null;

  private readonly snippets: Map<string, Code> = new Map();
  private readonly metrics: Map<string, Sum> = new Map();
  private readonly history: NthreadsHistory;
  private historyOffset: number;
  private past: Past | null = null;
  private foldAt = FOLD_FROM;

  constructor(name: readonly string[], id: string, parent: Span | null, history: NthreadsHistory, now: number) {
    this.name = name;
    this.id = id;
    this.parent = parent;
    this.annotation = annotationOf(name, id, parent);
    this.enqueued = now;
    this.history = history;
    this.historyOffset = Math.max(0, history.length - 1);
  }

  /** Span.merge: one span that is the sum of spans that are not related. */
  static merge(spans: readonly Span[], now: number): Span {
    const [first] = spans;
    if (first === undefined) throw new RangeError("Nothing to merge");
    const merged = new Span(["(merged)"], "(merged)", null, first.history, now);
    merged.historyOffset = Math.min(...spans.map((span) => span.historyOffset));
    merged.enqueued = Math.min(...spans.map((span) => span.enqueued));
    merged.children.push(...spans);
    return merged;
  }

  addGroup(group: TaskGroup): void {
    this.groups.add(group);
    if (this.groups.size >= this.foldAt) this.fold();
  }

  addCode(code: Code): void {
    const id = codeId(code);
    if (!this.snippets.has(id) && this.snippets.size < MAX_RECORDS) this.snippets.set(id, code);
  }

  /** Span.add_metadata: collections of several submissions are put together. */
  addMetadata(metadata: ReadonlyMap<Value, Value>): void {
    if (this.metadata === null) {
      this.metadata = new Map(metadata);
      return;
    }
    const [known, more] = [this.metadata.get("collections"), metadata.get("collections")];
    if (!Array.isArray(more)) return;
    const all = [...(Array.isArray(known) ? known : []), ...more];
    this.metadata.set("collections", all.slice(-MAX_RECORDS));
  }

  /** @param key the metric without its span: (context, prefix, activity, unit). */
  addMetric(key: readonly Value[], value: Value): void {
    const id = keyId(key);
    const known = this.metrics.get(id);
    const isFloat = value instanceof Float || !Number.isInteger(asNumber(value, 0));
    if (known === undefined) this.metrics.set(id, { key, sum: asNumber(value, 0), isFloat });
    else {
      known.sum += asNumber(value, 0);
      known.isFloat ||= isFloat;
    }
  }

  /** All that the span itself has, without those below it, for distributed.spans.Span beside the scheduler. */
  facts(): Map<Value, Value> {
    const groups = Array.from(this.groups, groupFacts);
    if (this.past !== null) groups.push(pastFacts(this.past));
    return new Map<Value, Value>([
      ["name", this.name],
      ["id", this.id],
      ["parent", this.parent?.id ?? null],
      ["enqueued", float(this.enqueued)],
      ["offset", this.historyOffset],
      ["groups", groups],
      ["code", [...this.snippets.values()]],
      ["metadata", this.metadata],
      ["metrics", Array.from(this.metrics.values(), ({ key, sum, isFloat }) => [key, isFloat ? float(sum) : sum])],
    ]);
  }

  /** This span and all below it, from the top. */
  *traverse(): Generator<Span> {
    yield this;
    for (const child of this.children) yield* child.traverse();
  }

  *traverseGroups(): Generator<TaskGroup> {
    for (const span of this.traverse()) yield* span.groups;
  }

  /** No task of the span is on its way. */
  get done(): boolean {
    for (const group of this.traverseGroups()) if (!group.done) return false;
    return true;
  }

  /** Every task was forgotten: nothing will be added but by name. */
  get forgotten(): boolean {
    for (const group of this.traverseGroups()) if (!group.removed) return false;
    return true;
  }

  /** When the first task started, seconds; 0 while none has finished. */
  get start(): number {
    let start = 0;
    for (const { start: time } of this.spansOfTime()) if (time !== 0 && (start === 0 || time < start)) start = time;
    // Absorbs small errors of the workers' clocks.
    return start === 0 ? 0 : Math.max(start, this.enqueued);
  }

  /** When the last task finished, or now while any is on its way; seconds. */
  stop(now: number): number {
    if (!this.done) return Math.max(now, this.enqueued);
    let stop = this.enqueued;
    for (const { stop: time } of this.spansOfTime()) stop = Math.max(stop, time);
    return stop;
  }

  /** Number of tasks in each state, by code. */
  get states(): number[] {
    const states = sumStates(this.traverseGroups());
    for (const span of this.traverse()) states[State.forgotten] = count(states[State.forgotten], span.past?.forgotten);
    return states;
  }

  /** Seconds by action. */
  get allDurations(): Map<string, number> {
    const sums = new Map<string, number>();
    for (const { allDurationsUs } of this.spansOfTime()) {
      for (const [action, us] of allDurationsUs) sums.set(action, (sums.get(action) ?? 0) + us / 1e6);
    }
    return sums;
  }

  /** Seconds. */
  get duration(): number {
    let us = 0;
    for (const { durationUs } of this.spansOfTime()) us += durationUs;
    return us / 1e6;
  }

  /** Bytes. */
  get nbytesTotal(): number {
    let bytes = 0;
    for (const { nbytesTotal } of this.spansOfTime()) bytes += nbytesTotal;
    return bytes;
  }

  /** The different snippets of this span and all below it. */
  get code(): readonly Code[] {
    const found = new Map<string, Code>();
    for (const span of this.traverse()) for (const [id, code] of span.snippets) if (!found.has(id)) found.set(id, code);
    return [...found.values()];
  }

  /** Sums over the span tree by (context, prefix, activity, unit), with the time that nothing accounts for. */
  cumulativeWorkerMetrics(now: number): Map<Value, Value> {
    const sums = new Map<string, Sum>();
    let knownSeconds = 0;
    for (const span of this.traverse()) {
      for (const [id, { key, sum, isFloat }] of span.metrics) {
        const found = sums.get(id);
        if (found === undefined) sums.set(id, { key, sum, isFloat });
        else {
          found.sum += sum;
          found.isFloat ||= isFloat;
        }
        if (key[0] === "execute" && key.at(-1) === "seconds") knownSeconds += sum;
      }
    }
    const metrics = new Map<Value, Value>();
    for (const { key, sum, isFloat } of sums.values()) metrics.set(key, isFloat ? float(sum) : sum);
    // Users may meter more than there was: never less than nothing.
    const unknown = Math.max(0, this.activeCpuSeconds(now) - knownSeconds);
    return metrics.set(["execute", "N/A", "idle or other spans", "seconds"], float(unknown));
  }

  /** The cluster's threads while the span was active: (begin, end, threads), seconds. */
  nthreadsIntervals(now: number): [begin: number, end: number, nthreads: number][] {
    const stop = this.done ? this.stop(now) : Number.POSITIVE_INFINITY;
    const threads: [number, number][] = [];
    for (const [time, n] of this.history.slice(this.historyOffset)) {
      if (time >= stop) break;
      threads.push([Math.max(this.enqueued, time), n]);
    }
    const active = this.activity(now);
    const times = [...new Set([...threads, ...active].map(([time]) => time))].sort((a, b) => a - b);
    const intervals: [number, number, number][] = [];
    for (let i = 0; i + 1 < times.length; i++) {
      const begin = times[i] as number;
      if (lastBefore(active, begin) === 0) continue;
      intervals.push([begin, times[i + 1] as number, lastBefore(threads, begin)]);
    }
    return intervals;
  }

  /** Seconds of threads that the cluster had while the span was active. */
  activeCpuSeconds(now: number): number {
    let seconds = 0;
    for (const [begin, end, nthreads] of this.nthreadsIntervals(now)) seconds += (end - begin) * nthreads;
    return seconds;
  }

  /** (time, 1 where it became active, 0 where it ended); several for merged spans. */
  private activity(now: number): [time: number, active: number][] {
    if (this.id !== "(merged)") {
      return [
        [this.enqueued, 1],
        [this.stop(now), 0],
      ];
    }
    const events = this.children.flatMap((child): [number, number][] => [
      [child.enqueued, 1],
      [child.stop(now), -1],
    ]);
    // A stable sort: where begin and end are one moment, the begin stays first.
    events.sort((a, b) => a[0] - b[0]);
    const active: [number, number][] = [];
    let n = 0;
    for (const [time, change] of events) {
      if (n === 0) active.push([time, 1]);
      n += change;
      if (n === 0) active.push([time, 0]);
    }
    return active;
  }

  private *spansOfTime(): Generator<Past | TaskGroup> {
    for (const span of this.traverse()) {
      if (span.past !== null) yield span.past;
      yield* span.groups;
    }
  }

  /** A span that lives as long as its cluster must not keep every group that there ever was. */
  private fold(): void {
    for (const group of this.groups) {
      if (!group.removed) continue;
      this.groups.delete(group);
      this.past ??= { start: 0, stop: 0, forgotten: 0, durationUs: 0, nbytesTotal: 0, allDurationsUs: new Map() };
      const { past } = this;
      if (group.start !== 0 && (past.start === 0 || group.start < past.start)) past.start = group.start;
      past.stop = Math.max(past.stop, group.stop);
      for (let code = 0; code < STATE_COUNT; code++) past.forgotten += group.states[code] as number;
      past.durationUs += group.durationUs;
      past.nbytesTotal += group.nbytesTotal;
      for (const [action, us] of group.allDurationsUs) {
        past.allDurationsUs.set(action, (past.allDurationsUs.get(action) ?? 0) + us);
      }
    }
    this.foldAt = Math.max(FOLD_FROM, 2 * this.groups.size);
  }
}

function groupFacts(group: TaskGroup): Map<Value, Value> {
  const { name, start, stop, done, states, durationUs, allDurationsUs, nbytesTotal } = group;
  return timesAndStates(name, { start, stop, forgotten: 0, durationUs, nbytesTotal, allDurationsUs }, done, states);
}

function pastFacts(past: Past): Map<Value, Value> {
  const states = noTasks();
  states[State.forgotten] = past.forgotten;
  return timesAndStates("", past, true, states);
}

function timesAndStates(name: Value, past: Past, done: boolean, states: readonly number[]): Map<Value, Value> {
  return new Map<Value, Value>([
    ["name", name],
    ["start", float(past.start)],
    ["stop", float(past.stop)],
    ["done", done],
    ["states", new Map(TASK_STATES.map((state, code) => [state as Value, states[code] as number]))],
    ["duration", float(past.durationUs / 1e6)],
    ["all_durations", new Map(Array.from(past.allDurationsUs, ([action, us]) => [action, float(us / 1e6)]))],
    ["nbytes_total", past.nbytesTotal],
  ]);
}

function annotationOf(name: readonly string[], id: string, parent: Span | null): ReadonlyMap<Value, Value> | null {
  if (name.length === 1 && name[0] === "default") return null;
  const ids = [id];
  for (let span = parent; span !== null; span = span.parent) ids.push(span.id);
  return new Map<Value, Value>([
    ["name", name],
    ["ids", ids.reverse()],
  ]);
}

/** Value of the last entry at or before the time; 0 before the first (distributed.itertools.ffill). */
function lastBefore(series: readonly (readonly [number, number])[], time: number): number {
  let value = 0;
  for (const [at, next] of series) {
    if (at > time) break;
    value = next;
  }
  return value;
}

function count(a: number | undefined, b: number | undefined): number {
  return (a ?? 0) + (b ?? 0);
}
