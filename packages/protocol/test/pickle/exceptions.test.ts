import { afterAll, beforeAll, expect, it } from "vitest";
import {
  cleanException,
  encodeMessage,
  errorMessage,
  killedWorker,
  type LastWorker,
  noValidWorkerError,
  noWorkerError,
  type PythonExceptionName,
  pythonException,
} from "../../src/index.ts";
import { hex, Oracle } from "../support/oracle.ts";

let python: Oracle;
beforeAll(() => {
  python = new Oracle();
});
afterAll(() => python.close());

interface Seen {
  type: string;
  str: string;
  repr: string;
  again: string;
}

const WORKER: LastWorker = {
  address: "tcp://10.0.0.1:4321",
  name: "w-0",
  status: "closed",
  pid: 42,
  nthreads: 2,
  memoryLimit: 2 ** 33,
  localDirectory: "/tmp/x",
  nanny: "tcp://10.0.0.1:4322",
  serverId: "Worker-1",
  services: new Map([["dashboard", 8787]]),
};

it("builtin exceptions open as themselves", async () => {
  const names: [PythonExceptionName, string][] = [
    ["Exception", "builtins.Exception"],
    ["RuntimeError", "builtins.RuntimeError"],
    ["ValueError", "builtins.ValueError"],
    ["KeyError", "builtins.KeyError"],
    ["TypeError", "builtins.TypeError"],
    ["MemoryError", "builtins.MemoryError"],
    ["OSError", "builtins.OSError"],
    ["ImportError", "builtins.ImportError"],
    ["AttributeError", "builtins.AttributeError"],
    ["TimeoutError", "builtins.TimeoutError"],
    ["CancelledError", "asyncio.exceptions.CancelledError"],
    ["CommClosedError", "distributed.comm.core.CommClosedError"],
  ];
  const made = names.map(([name]) => pythonException(name, "it's broken: é\n"));
  const seen = await python.ask<Seen[]>(
    "exceptions",
    made.map((exception) => hex(exception.pickle)),
  );
  expect(seen.map((one) => one.type)).toEqual(names.map(([, type]) => type));
  for (const [i, one] of seen.entries()) {
    expect(made[i]!.repr).toBe(one.repr);
    expect(one.again).toBe(one.repr);
    if (one.type !== "builtins.KeyError") expect(one.str).toBe("it's broken: é\n");
  }
});

it("the scheduler's exceptions say what stock's say", async () => {
  const made = [
    killedWorker(["x-1", 2], WORKER, 3),
    noWorkerError("x-1", 1),
    noValidWorkerError("x-1", new Set(["h"]), null, new Map([["GPU", 1.5]]), 0.5),
    noValidWorkerError("x-1", null, new Set(["tcp://a:1"]), null, 90),
  ];
  const seen = await python.ask<Seen[]>(
    "exceptions",
    made.map((exception) => hex(exception.pickle)),
  );
  const stock = await python.ask<[string, string][]>("stock_exceptions", null);
  expect(seen.map((one) => [one.str, one.repr])).toEqual(stock);
  expect(made.map((exception) => exception.repr)).toEqual(stock.map(([, repr]) => repr));
  expect(seen.map((one) => one.again)).toEqual(stock.map(([, repr]) => repr));
});

it("KilledWorker.last_worker is a WorkerState with the worker's facts", async () => {
  expect(await python.ask("killed_worker", hex(killedWorker(["x-1", 2], WORKER, 3).pickle))).toEqual({
    task: [
      "tuple",
      [
        ["str", "x-1"],
        ["int", "2"],
      ],
    ],
    allowed: 3,
    status: "closed",
    hashable: true,
    services: { dashboard: 8787 },
    address: WORKER.address,
    name: "w-0",
    pid: 42,
    nthreads: 2,
    memory_limit: 2 ** 33,
    local_directory: "/tmp/x",
    nanny: WORKER.nanny,
    server_id: "Worker-1",
  });
});

it("distributed raises our error messages as it raises its own", async () => {
  const fields = ["exception", "exception_text", "status", "traceback", "traceback_text"];
  const read = (frames: Uint8Array[]): Promise<unknown> => python.ask("error_message", frames.map(hex));
  const simple = errorMessage({ kind: "ValueError", text: "no", traceback: "  File x\n" }, "uncaught-error");
  expect(await read(encodeMessage(simple))).toEqual(["ValueError", "no", true, fields]);
  const killed = errorMessage(killedWorker("x", WORKER, 0));
  expect(await read(encodeMessage(killed))).toEqual([
    "KilledWorker",
    expect.stringContaining("on 1 different workers") as string,
    true,
    fields,
  ]);
  const long = errorMessage({ kind: "RuntimeError", text: `${"x".repeat(9_999)}\u{1d49c}more` });
  expect(await read(encodeMessage(long))).toEqual([
    "RuntimeError",
    `('Long error message', '${"x".repeat(9_999)}\ufffd')`,
    true,
    fields,
  ]);
});

it("cleanException reads name and text of a peer's error", () => {
  expect(cleanException(errorMessage({ kind: "KeyError", text: "x" }))).toEqual({
    name: "KeyError",
    text: "KeyError('x')",
  });
  expect(cleanException({ exception: "only a text", traceback: null })).toEqual({ text: "only a text" });
  expect(cleanException({})).toEqual({ text: "an exception without a text" });
});
