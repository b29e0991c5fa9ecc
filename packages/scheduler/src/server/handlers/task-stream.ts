/** The record of finished tasks (distributed.diagnostics.task_stream.TaskStreamPlugin). */
import { asNumber, float, type Message, parseTimedelta, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { keep } from "../../core/fields.ts";
import type { TransitionListener } from "../../core/hooks.ts";
import type { TaskState } from "../../core/task-state.ts";
import { State } from "../../core/task-status.ts";
import type { SchedulerContext } from "../context.ts";
import { optionalNumber } from "../fields.ts";

export function taskStreamHandlers(ctx: SchedulerContext): RpcHandlers {
  let recorder: TaskStream | undefined;
  const stream = (): TaskStream => {
    // Recording begins with the first question, as in stock.
    if (recorder === undefined) {
      recorder = new TaskStream(ctx.settings.taskStreamLength);
      ctx.core.listeners.transition.push(recorder.onTransition);
    }
    return recorder;
  };
  return {
    get_task_stream: (fields) =>
      stream().collect({
        start: moment(fields["start"] ?? null, ctx.now()),
        stop: moment(fields["stop"] ?? null, ctx.now()),
        count: optionalNumber(fields, "count"),
        startIndex: optionalNumber(fields, "start_index"),
      }),
    get_task_stream_index: () => stream().index,
  };
}

/** A time in seconds, or a text that says how long ago. */
function moment(value: Value, now: number): number | null {
  if (value === null) return null;
  return typeof value === "string" ? now - parseTimedelta(value) : asNumber(value, 0);
}

interface Selection {
  readonly start: number | null;
  readonly stop: number | null;
  readonly count: number | null;
  readonly startIndex: number | null;
}

interface Recorded {
  readonly record: Value;
  /** When its last action ended, seconds. */
  readonly end: number;
}

class TaskStream {
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

  collect({ start, stop, count, startIndex }: Selection): Value[] {
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
