/**
 * The machine against recordings of the original (`record_stock.py`): the same events must lead to the same instructions
 * in the same order, the same task states, the same data in the store.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Value } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import { type SchedulerOp, SCHEDULER_OPS, type WorkerEvent } from "../../src/core/index.ts";
import { TRANSITIONS } from "../../src/core/transitions/table.ts";
import { Driver, ERROR, simplify, TYPE, toMap } from "./support/events.ts";

interface Recording {
  readonly address: string;
  readonly valueSize: number;
  readonly scenarios: readonly {
    readonly config: {
      readonly nthreads: number;
      readonly resources: Readonly<Record<string, number>>;
      readonly count_limit: number;
      readonly bytes_limit: number;
      readonly message_limit: number;
      readonly threshold: number;
    };
    readonly steps: readonly {
      readonly event: RecordedEvent;
      readonly instructions: Value[][];
      readonly changed: Readonly<Record<string, string | null>>;
      readonly data: readonly string[];
      readonly nbytes: number;
      readonly incoming: number;
    }[];
  }[];
}

interface RecordedEvent {
  readonly kind: string;
  readonly stimulus_id: string;
  readonly key: string;
  readonly keys: readonly string[];
  readonly worker: string;
  readonly run_id: number;
  readonly nbytes: number;
  readonly total_nbytes: number;
  readonly compute_duration: number;
}

function toEvent(recorded: RecordedEvent, valueSize: number): WorkerEvent {
  const { kind, stimulus_id: stimulusId, key, worker, total_nbytes: totalNbytes, run_id: runId } = recorded;
  const stored = (of: string, nbytes: number) => ({ key: of, nbytes, type: TYPE, typename: "builtins.bytes" });
  if (SCHEDULER_OPS.has(kind)) {
    const message: Record<string, Value> = { op: kind };
    for (const [field, part] of Object.entries(recorded)) {
      if (field === "kind") continue;
      const isMap = typeof part === "object" && !Array.isArray(part);
      message[field] = isMap ? toMap(part as Record<string, Value>) : (part as Value);
    }
    if (kind === "compute-task") Object.assign(message, { run_spec: "spec", actor: false, annotations: new Map() });
    return { kind: kind as SchedulerOp, message };
  }
  const run = { start: 1, stop: 2, thread: 1, startstops: [], stimulusId };
  switch (kind) {
    case "gather-success":
      return {
        kind,
        worker,
        totalNbytes,
        received: recorded.keys.map((of) => stored(of, valueSize)),
        stimulusId,
      };
    case "gather-busy":
    case "gather-network-failure":
      return { kind, worker, totalNbytes, stimulusId };
    case "gather-failure":
      return { kind, worker, totalNbytes, error: ERROR, stimulusId };
    case "execute-success":
      return { kind, runId, ...stored(key, recorded.nbytes), ...run, metadata: null };
    case "execute-failure":
      return { kind, key, runId, error: ERROR, ...run };
    case "reschedule":
      return { kind, key, stimulusId };
    case "secede":
      return { kind, key, computeDuration: recorded.compute_duration, stimulusId };
    case "update-data":
      return { kind, entries: recorded.keys.map((of) => stored(of, valueSize)), stimulusId };
    case "retry-busy-worker":
      return { kind, worker, stimulusId };
    case "pause":
    case "unpause":
    case "find-missing":
      return { kind, stimulusId };
    default:
      throw new Error(`unknown event ${kind}`);
  }
}

function read(): Recording {
  const path = process.env["STOCK_RECORDING"];
  const bytes = readFileSync(path ?? new URL("./fixtures/stock.json.gz", import.meta.url));
  return JSON.parse((path === undefined ? gunzipSync(bytes) : bytes).toString()) as Recording;
}

test("does what the original does, event by event", () => {
  const recording = read();
  const taken = new Set<string>();
  expect(recording.scenarios.length).toBeGreaterThan(0);
  recording.scenarios.forEach(({ config, steps }, number) => {
    const driver = new Driver({
      address: recording.address,
      nthreads: config.nthreads,
      resources: new Map(Object.entries(config.resources)),
      totalOutConnections: config.count_limit,
      transferIncomingBytesLimit: config.bytes_limit,
      transferMessageBytesLimit: config.message_limit,
      transferIncomingBytesThrottleThreshold: config.threshold,
      reportTransitions: true,
      errWithDependencies: false,
    });
    const states = new Map<string, string>();
    steps.forEach((step, i) => {
      const where = (): string => `scenario ${number}, step ${i}: ${JSON.stringify(step.event)}`;
      const instructions = driver.raw(toEvent(step.event, recording.valueSize));
      for (const instruction of instructions) {
        if (instruction.kind === "transition") taken.add(`${instruction.start} -> ${instruction.finish}`);
      }
      const told = instructions.filter(({ kind }) => kind !== "drop" && kind !== "cancel" && kind !== "transition");
      for (const [key, state] of Object.entries(step.changed)) {
        if (state === null) states.delete(key);
        else states.set(key, state);
      }
      const got = [
        told.flatMap(simplify),
        sorted(driver.states()),
        Array.from(driver.store).sort(),
        driver.machine.nbytes,
        driver.machine.transferIncomingBytes,
      ];
      const wanted = [step.instructions, sorted(Object.fromEntries(states)), step.data, step.nbytes, step.incoming];
      if (JSON.stringify(got) !== JSON.stringify(wanted)) expect(got, where()).toEqual(wanted);
    });
  });
  const table = Object.entries(TRANSITIONS).flatMap(([start, to]) =>
    Object.keys(to).map((end) => `${start} -> ${end}`),
  );
  expect(table.filter((edge) => !taken.has(edge)).sort()).toEqual([
    // No handler of the original recommends these in the state from which they start.
    "cancelled -> missing",
    // Ours: see handleRecalled.
    "executing -> ready",
    "missing -> error",
    "released -> error",
    // Ours: see errWithDependencies.
    "waiting -> error",
  ]);
});

function sorted(states: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(states).sort(([a], [b]) => (a < b ? -1 : 1));
}
