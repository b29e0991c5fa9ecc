/** The record of finished tasks (distributed.diagnostics.task_stream.TaskStreamPlugin). */
import { asNumber, float, type Message, type Value } from "@dask-ts/protocol";
import { keep } from "../core/fields.ts";
import type { TransitionListener } from "../core/hooks.ts";
import type { TaskState } from "../core/task-state.ts";
import { State } from "../core/task-status.ts";
import type { SchedulerContext } from "./context.ts";

const streams: WeakMap<SchedulerContext, TaskStream> = new WeakMap();

/** The scheduler's task stream. Recording begins when it is first asked for, as in stock. */
export function taskStream(ctx: SchedulerContext): TaskStream {
  let stream = streams.get(ctx);
  if (stream === undefined) {
    stream = new TaskStream(ctx.settings.taskStreamLength);
    streams.set(ctx, stream);
    ctx.core.listeners.transition.push(stream.onTransition);
  }
  return stream;
}

/** Which records are wanted: times in seconds, positions in the order of recording. */
export interface Selection {
  readonly start: number | null;
  readonly stop?: number | null;
  readonly count?: number | null;
  readonly startIndex?: number | null;
}

interface Recorded {
  readonly record: Value;
  /** When its last action ended, seconds. */
  readonly end: number;
}

export class TaskStream {
  readonly #maxLength: number;
  #records: Recorded[] = [];
  /** Records ever made. */
  index = 0;

  constructor(maxLength: number) {
    this.#maxLength = Math.max(1, maxLength);
  }

  readonly onTransition: TransitionListener = (ts, start, finish, { message, stimulusId }) => {
    if (start !== State.processing || (finish !== State.memory && finish !== State.erred)) return;
    if (message === undefined || !Array.isArray(message["startstops"])) return;
    const startstops = message["startstops"] as readonly Value[];
    this.#records.push({ record: recordOf(message, ts.key, ts, stimulusId), end: endOf(startstops) });
    this.index++;
    if (this.#records.length >= 2 * this.#maxLength) this.#records = this.#records.slice(-this.#maxLength);
  };

  collect({ start, stop = null, count = null, startIndex = null }: Selection): Value[] {
    const records = this.#records.slice(-this.#maxLength);
    let from = start === null ? null : bisect(records, start);
    let to = stop === null ? null : bisect(records, stop);
    if (startIndex !== null) {
      from = Math.max(0, startIndex - (this.index - records.length));
      to = null;
    } else if (count !== null) {
      if (from === null) {
        to ??= records.length;
        from = to - count;
      } else {
        to ??= from + count;
      }
    }
    return records.slice(Math.max(0, from ?? 0), to ?? records.length).map(({ record }) => record);
  }
}

/** The keyword arguments of the transition, as stock records them. */
function recordOf(message: Message, key: Value, ts: TaskState, stimulusId: string): Value {
  const { op: _, ...fields } = message;
  const record = new Map<Value, Value>();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) record.set(name, keep(value));
  record.set("key", key);
  if (!record.has("worker"))
    record.set("worker", ts.whoHas.items.at(-1)?.address ?? [...(ts.erredOn ?? [])].at(-1) ?? null);
  record.set("stimulus_id", stimulusId);
  const startstops = record.get("startstops");
  if (Array.isArray(startstops)) record.set("startstops", startstops.map(withFloats));
  return record;
}

function withFloats(startstop: Value): Value {
  if (!(startstop instanceof Map)) return startstop;
  const copy = new Map<Value, Value>(startstop as ReadonlyMap<Value, Value>);
  for (const name of ["start", "stop"]) copy.set(name, float(asNumber(copy.get(name), 0)));
  return copy;
}

function endOf(startstops: readonly Value[]): number {
  let end = 0;
  for (const startstop of startstops) {
    if (startstop instanceof Map) end = Math.max(end, asNumber(startstop.get("stop"), 0));
  }
  return end;
}

/** Position of the first record that ended at or after the time. */
function bisect(records: readonly Recorded[], time: number): number {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((records[middle] as Recorded).end < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
