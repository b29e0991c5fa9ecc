import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import {
  decodeSubHeader,
  findPython,
  type Key,
  keyId,
  type Message,
  pickled,
  pythonPackageDirectory,
  Serialized,
  type Value,
} from "@dask-ts/protocol";
import type { ExecuteOutcome, ExecuteRequest, ExecutorEvents } from "../../src/executor/executor.ts";
import { type ExecutorOptions, PythonExecutor } from "../../src/executor/python-executor.ts";

const here = dirname(fileURLToPath(import.meta.url));

/** Pickles made by `executor_tasks_under_test.py`. */
export interface Pickles {
  get(name: string): Uint8Array;
  readonly python: string;
}

export async function makePickles(): Promise<Pickles> {
  const python = (await findPython()).path;
  const output = execFileSync(python, ["executor_tasks_under_test.py"], {
    cwd: here,
    encoding: "utf8",
    env: { ...process.env, PYTHONPATH: pythonPackageDirectory() },
  });
  const all = JSON.parse(output) as Record<string, string>;
  return {
    python,
    get: (name) => {
      const text = all[name];
      if (text === undefined) throw new Error(`no pickle is called ${name}`);
      return Buffer.from(text, "base64");
    },
  };
}

/** An executor and everything that it told. */
export class Recorded implements ExecutorEvents {
  readonly outcomes: ExecuteOutcome[] = [];
  readonly secededKeys: Key[] = [];
  readonly events: [Value, Value][] = [];
  readonly requests: [string, Message][] = [];
  readonly logs: string[] = [];
  readonly lines: string[] = [];
  readonly exits: [number | null, string | null][] = [];
  readonly #waiting: (() => void)[] = [];

  outcome(outcome: ExecuteOutcome): void {
    this.outcomes.push(outcome);
    this.#changed();
  }
  seceded(key: Key): void {
    this.secededKeys.push(key);
    this.#changed();
  }
  logEvent(topic: Value, message: Value): void {
    this.events.push([topic, message]);
    this.#changed();
  }
  request(op: string, fields: Message): Promise<Value> {
    this.requests.push([op, fields]);
    this.#changed();
    return Promise.resolve(null);
  }
  log(_level: string, _logger: string, text: string): void {
    this.logs.push(text);
    this.#changed();
  }
  line(line: string): void {
    this.lines.push(line);
    this.#changed();
  }
  exit(code: number | null, signal: string | null): void {
    this.exits.push([code, signal]);
    this.#changed();
  }

  #changed(): void {
    for (const check of this.#waiting.splice(0)) check();
  }

  /** Resolves when the condition gives something, looked at after every event. */
  until<T>(condition: () => T | undefined | false): Promise<T> {
    return new Promise((resolve) => {
      const check = (): void => {
        const value = condition();
        if (value !== undefined && value !== false) resolve(value);
        else this.#waiting.push(check);
      };
      check();
    });
  }

  outcomeOf(key: Key): Promise<ExecuteOutcome> {
    return this.until(() => this.outcomes.find((outcome) => keyId(outcome.key) === keyId(key)));
  }
}

export interface Started {
  readonly executor: PythonExecutor;
  readonly told: Recorded;
}

export async function startExecutor(pickles: Pickles, options: Partial<ExecutorOptions> = {}): Promise<Started> {
  const told = new Recorded();
  const executor = await PythonExecutor.start(
    {
      python: pickles.python,
      address: "tcp://127.0.0.1:4567",
      scheduler: "tcp://127.0.0.1:9",
      name: "under-test",
      nthreads: 2,
      localDirectory: null,
      memoryLimit: 4e9,
      env: { PYTHONPATH: here },
      onLine: (_stream, line) => told.line(line),
      ...options,
    },
    told,
  );
  return { executor, told };
}

export function task(pickles: Pickles, name: string, overrides: Partial<ExecuteRequest> = {}): ExecuteRequest {
  return {
    key: name,
    runId: 1,
    runSpec: pickled(pickles.get(name)),
    dependencies: [],
    annotations: new Map(),
    actor: false,
    priority: [0, 1],
    spanId: null,
    ...overrides,
  };
}

/** A value that was serialized with the `msgpack` or (bytes, str, int, …) `pickle` family: its first frame. */
export function payload(value: Value | undefined): Buffer {
  if (!(value instanceof Serialized)) throw new Error("a serialized value was expected");
  return Buffer.concat(value.frames);
}

export function header(value: Value | undefined): Map<Value, Value> {
  if (!(value instanceof Serialized)) throw new Error("a serialized value was expected");
  return decodeSubHeader(value.header);
}
