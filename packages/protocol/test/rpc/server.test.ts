import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  COMMON_RPC,
  type Comm,
  DONT_REPLY,
  fieldChecker,
  type Message,
  PythonError,
  RemoteError,
  type RpcHandlers,
  serveComm,
  TAKEN_OVER,
  typedHandlers,
  type Value,
  WORKER_RPC,
} from "../../src/index.ts";
import { commPair, type Pair } from "../support/pair.ts";
import { until } from "../support/wait.ts";

let pair: Pair;
let errors: [string, string][];
let served: Promise<void>;

const handlers: RpcHandlers = {
  ...typedHandlers(COMMON_RPC, { echo: ({ data }) => data ?? null }),
  ...typedHandlers(WORKER_RPC, {
    gather: ({ who_has }) => who_has.size,
    keys: () => undefined,
    ping: async () => Buffer.from("pong"),
    get_data: async (_fields, { comm }): Promise<typeof DONT_REPLY> => {
      comm.send({ status: "OK", data: new Map() });
      expect(await comm.receive()).toBe("OK");
      return DONT_REPLY;
    },
    terminate: () => {
      throw new PythonError("KeyError", "what");
    },
    run: () => {
      throw new RemoteError({ exception: "from elsewhere", exception_text: "E('x')", traceback_text: "tb" });
    },
    versions: (_fields, { serializers }) => serializers,
    profile: () => [1n << 80n],
  }),
  stream: (_fields, { comm }) => {
    comm.send("started");
    comm.listen((message) => void comm.send(["seen", message]));
    return TAKEN_OVER;
  },
  forbidden: () => "never",
};

beforeEach(async () => {
  pair = await commPair();
  errors = [];
  served = serveComm(pair.server, handlers, {
    name: "Worker",
    blockedHandlers: ["forbidden"],
    checkFields: fieldChecker(COMMON_RPC, WORKER_RPC),
    onError: (error, op) => errors.push([op, error.message]),
  });
});
afterEach(() => pair.close());

async function ask(message: Value, comm: Comm = pair.client): Promise<Value> {
  comm.send(message);
  return comm.receive();
}

test("replies, nil among them, one after the other on one comm", async () => {
  expect(await ask({ op: "echo", data: [1, null] })).toEqual([1, null]);
  expect(await ask({ op: "echo", reply: true, close: false, serializers: null })).toBe(null);
  expect(await ask({ op: "keys" })).toBe(null);
  expect(await ask({ op: "gather", who_has: new Map([["a", ["tcp://1"]]]) })).toBe(1);
  expect(await ask({ op: "ping" })).toEqual(new Uint8Array(Buffer.from("pong")));
  expect(await ask({ op: "versions", serializers: ["msgpack"] })).toEqual(["msgpack"]);
});

test("no reply where none is wanted", async () => {
  pair.client.send({ op: "echo", data: 1, reply: false });
  expect(await ask({ op: "echo", data: 2 })).toBe(2);
});

test("a handler that writes its own reply", async () => {
  expect(await ask({ op: "get_data", keys: ["a"] })).toEqual({ status: "OK", data: new Map() });
  pair.client.send("OK");
  expect(await ask({ op: "echo", data: 2 })).toBe(2);
});

test("a handler that takes the comm over", async () => {
  pair.client.send({ op: "stream", reply: false });
  expect(await pair.client.receive()).toBe("started");
  await served;
  expect(await ask([{ op: "x" }])).toEqual(["seen", [new Map([["op", "x"]])]]);
});

test("close", async () => {
  expect(await ask({ op: "close" })).toBe("OK");
  await until(() => pair.client.closed, "closed");
  await served;
});

test("close without a reply, and close after a reply", async () => {
  expect(await ask({ op: "echo", data: 1, close: true })).toBe(1);
  await until(() => pair.client.closed, "closed");
  const other = await commPair();
  void serveComm(other.server, handlers, { name: "Worker" });
  other.client.send({ op: "close", reply: false });
  await until(() => other.client.closed, "closed");
  await expect(other.client.receive()).rejects.toThrow();
});

describe("errors go to the caller, who keeps the comm", () => {
  const cases: [string, Message, string][] = [
    ["unknown op", { op: "nope" }, `No handler 'nope' found in Worker`],
    ["a name of Object's", { op: "constructor" }, `No handler 'constructor' found in Worker`],
    ["blocked op", { op: "forbidden" }, "explicitly disallowed in Worker"],
    ["missing field", { op: "gather" }, "gather: missing field 'who_has'"],
    ["unexpected field", { op: "echo", data: 1, more: 2 }, "echo: unexpected field 'more' (known: data)"],
    ["wrong kind", { op: "gather", who_has: ["a"] }, "gather: field 'who_has' must be a dict, not list"],
    ["PythonError", { op: "terminate" }, "KeyError('what')"],
    ["a reply that cannot be encoded", { op: "profile" }, "64 bits"],
  ];
  test.each(cases)("%s", async (_name, message, text) => {
    const reply = (await ask(message)) as Message;
    expect(reply["status"]).toBe("uncaught-error");
    expect(reply["exception_text"]).toContain(text);
    expect(errors.length).toBe(1);
    expect(errors[0]![0]).toBe(message["op"]);
    expect(await ask({ op: "echo", data: 5 })).toBe(5);
  });

  test("what another peer's handler raised is passed on as it came", async () => {
    expect(await ask({ op: "run", function: null })).toEqual({
      status: "uncaught-error",
      exception: "from elsewhere",
      traceback: null,
      exception_text: "E('x')",
      traceback_text: "tb",
    });
  });
});

test.each([
  ["no map", [1, 2]],
  ["no op", { data: 1 }],
  ["op is no str", { op: 5 }],
])("%s: the connection is dropped", async (_name, message) => {
  pair.client.send(message);
  await until(() => pair.client.closed, "dropped");
  await served;
  expect(errors[0]![1]).toMatch(/bad message/);
});

test("a peer that goes while its handler works", async () => {
  pair.client.send({ op: "get_data", keys: [] });
  await pair.client.receive();
  pair.client.abort();
  await served;
  expect(pair.server.closed).toBe(true);
  expect(errors).toEqual([]);
});
