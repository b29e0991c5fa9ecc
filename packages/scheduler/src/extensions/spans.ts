/** The spans of the cluster (distributed.spans.SpansSchedulerExtension). */
import { randomUUID } from "node:crypto";
import { float, type Value } from "@dask-ts/protocol";
import type { SpansHook } from "../core/hooks.ts";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskState } from "../core/task-state.ts";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { type NthreadsHistory, Span } from "./span.ts";

/** Past this many, the oldest whose tasks are all forgotten go. */
const MAX_SPANS = 20_000;

/** Spans that are told at once to code beside the scheduler. */
const MAX_TOLD = 2000;

const DEFAULT_NAME = ["default"] as const;

type Annotations = ReadonlyMap<Value, Value> | null;

export class Spans implements SchedulerExtension, SpansHook {
  readonly name = "spans";
  /** All spans by id. */
  readonly spans: Map<string, Span> = new Map();
  /** Those without parent, by creation. */
  rootSpans: Span[] = [];
  #byName: Map<string, Span[]> = new Map();
  #byTag: Map<string, Span[]> = new Map();
  #history: NthreadsHistory = [];
  #now: () => number = () => 0;
  #limit: number;

  constructor(maxSpans: number = MAX_SPANS) {
    this.#limit = maxSpans;
  }

  start(context: SchedulerContext): void {
    this.attach(context.core, () => context.now());
  }

  /** Serves the core from here on. */
  attach(core: SchedulerContext["core"], now: () => number): void {
    this.#history = core.state.totalNthreadsHistory;
    this.#now = now;
    core.spans = this;
  }

  observer(metadata: ReadonlyMap<Value, Value>, code: readonly Value[], now: number): (ts: TaskState) => void {
    /** The last annotations that a task of the span came with, and those it got. */
    const last = new Map<Span, readonly [given: Annotations, set: Annotations]>();
    let defaultSpan: Span | undefined;
    let group: TaskGroup | null = null;
    let given: Annotations | undefined;
    let set: Annotations = null;
    // Tasks of a group come one behind the other and share their annotations: nearly all take the short way.
    return (ts) => {
      if (ts.group === group && ts.annotations === given) {
        ts.annotations = set;
        return;
      }
      group = ts.group;
      given = ts.annotations;
      // Tasks of one group belong to one span, whatever their annotations say.
      let span = group.spanId === null ? undefined : this.spans.get(group.spanId);
      if (span === undefined) {
        const named = readAnnotation(given?.get("span"));
        if (named !== undefined) span = this.#ensure(named.name, named.ids, now);
        else span = defaultSpan ??= this.#ensureDefault(now);
        group.spanId = span.id;
        span.addGroup(group);
      }
      const before = last.get(span);
      if (before !== undefined && before[0] === given) {
        set = before[1];
        ts.annotations = set;
        return;
      }
      if (before === undefined) {
        if (code.length > 0) span.addCode(code);
        if (metadata.size > 0) span.addMetadata(metadata);
      }
      set = withSpan(given, span);
      last.set(span, [given, set]);
      ts.annotations = set;
    };
  }

  labelOf(spanId: string): string {
    return this.spans.get(spanId)?.name.join(", ") ?? spanId;
  }

  /** `{(context, span id, …): value}`, from SpansWorkerExtension.heartbeat. */
  heartbeat(_address: string, data: Value): undefined {
    if (!(data instanceof Map)) return;
    for (const [key, value] of data as ReadonlyMap<Value, Value>) {
      if (!Array.isArray(key)) continue;
      const [context, id, ...rest] = key as readonly Value[];
      // A span that was dropped, or one of a scheduler before this one.
      this.spans.get(String(id))?.addMetric([context as Value, ...rest], value);
    }
  }

  /** Spans with exactly this name, by creation. */
  named(name: readonly string[]): readonly Span[] {
    return this.#byName.get(nameId(name)) ?? [];
  }

  /** Spans that have any of the tags; of a span and what is below it only the span. */
  findByTags(tags: readonly string[]): Span[] {
    const levels = new Map<number, Span[]>();
    for (const tag of tags) {
      for (const span of this.#byTag.get(tag) ?? []) {
        const level = levels.get(span.name.length) ?? [];
        levels.set(span.name.length, level);
        level.push(span);
      }
    }
    const seen = new Set<Span>();
    const found: Span[] = [];
    for (const [, level] of [...levels].sort((a, b) => a[0] - b[0])) {
      for (const span of level) seen.add(span);
      for (const span of level) if (span.parent === null || !seen.has(span.parent)) found.push(span);
    }
    return found;
  }

  /** One span that is the sum of all. @throws {RangeError} where there is none. */
  mergeAll(): Span {
    return Span.merge(this.rootSpans, this.#now());
  }

  /** One span that is the sum of those with any of the tags. @throws {RangeError} where there is none. */
  mergeByTags(tags: readonly string[]): Span {
    return Span.merge(this.findByTags(tags), this.#now());
  }

  /** The newest spans with their parents before them, and the history of the cluster's threads. */
  facts(): Map<Value, Value> {
    const told: Span[][] = [];
    let n = 0;
    for (let i = this.rootSpans.length - 1; i >= 0 && n < MAX_TOLD; i--) {
      const tree = [...(this.rootSpans[i] as Span).traverse()];
      told.push(tree);
      n += tree.length;
    }
    return new Map<Value, Value>([
      ["history", this.#history.map(([time, threads]) => [float(time), threads])],
      ["spans", told.reverse().flatMap((tree) => tree.map((span) => span.facts()))],
    ]);
  }

  /** The default span under way, or a new one where all its tasks are done. */
  #ensureDefault(now: number): Span {
    const last = this.#byName.get(nameId(DEFAULT_NAME))?.at(-1);
    if (last !== undefined && !last.done) return last;
    return this.#ensure(DEFAULT_NAME, [randomUUID()], now);
  }

  #ensure(name: readonly string[], ids: readonly string[], now: number): Span {
    const id = ids.at(-1) as string;
    const known = this.spans.get(id);
    if (known !== undefined) return known;
    const parent = name.length > 1 ? this.#ensure(name.slice(0, -1), ids.slice(0, -1), now) : null;
    const span = new Span([...name], id, parent, this.#history, now);
    this.spans.set(id, span);
    (parent?.children ?? this.rootSpans).push(span);
    this.#index(span);
    if (this.spans.size > this.#limit) this.#dropOldest(span);
    return span;
  }

  #index(span: Span): void {
    append(this.#byName, nameId(span.name), span);
    for (const tag of span.name) append(this.#byTag, tag, span);
  }

  /** `added` has no groups yet, and stays. */
  #dropOldest(added: Span): void {
    let excess = this.spans.size - Math.floor(this.#limit * 0.9);
    let root = added;
    while (root.parent !== null) root = root.parent;
    this.rootSpans = this.rootSpans.filter((other) => {
      if (excess <= 0 || other === root || !other.forgotten) return true;
      for (const span of other.traverse()) {
        this.spans.delete(span.id);
        excess--;
      }
      return false;
    });
    this.#byName = new Map();
    this.#byTag = new Map();
    for (const span of this.spans.values()) this.#index(span);
  }
}

/** The annotation that `distributed.span` makes; undefined where there is none. */
function readAnnotation(value: Value | undefined): { name: string[]; ids: string[] } | undefined {
  if (!(value instanceof Map)) return undefined;
  const [name, ids] = [value.get("name"), value.get("ids")];
  if (!Array.isArray(name) || !Array.isArray(ids) || name.length !== ids.length || name.length === 0) return undefined;
  return { name: name.map(String), ids: ids.map(String) };
}

/** The task's annotations with its span's in place of what it said. */
function withSpan(annotations: Annotations, span: Span): Annotations {
  const named = readAnnotation(annotations?.get("span"));
  const annotation = span.annotation;
  if (annotation === null) {
    if (named === undefined && !annotations?.has("span")) return annotations;
    const copy = new Map(annotations);
    copy.delete("span");
    return copy;
  }
  if (named?.ids.at(-1) === span.id) return annotations;
  return new Map(annotations).set("span", annotation);
}

function append(index: Map<string, Span[]>, id: string, span: Span): void {
  const found = index.get(id);
  if (found === undefined) index.set(id, [span]);
  else found.push(span);
}

function nameId(name: readonly string[]): string {
  return JSON.stringify(name);
}

/** The scheduler's spans, where it has the extension. */
export function spansOf(ctx: SchedulerContext): Spans | undefined {
  return ctx.extensions.find((extension) => extension instanceof Spans);
}
