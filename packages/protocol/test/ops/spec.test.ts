import { expect, test } from "vitest";
import {
  fieldChecker,
  Float,
  type Message,
  Pickled,
  SCHEDULER_RPC,
  SCHEDULER_TO_WORKER,
  type Value,
} from "../../src/index.ts";

const check = fieldChecker(SCHEDULER_RPC, SCHEDULER_TO_WORKER);

test.each<[string, Message]>([
  ["who_has", {}],
  ["who_has", { keys: null }],
  ["who_has", { keys: ["a", ["b", 1], new Float(1)] }],
  ["gather", { keys: new Set<Value>(["a"]) }],
  ["scatter", { data: new Map(), workers: null, client: "c", timeout: "5s", broadcast: 2 }],
  ["get_metadata", { keys: ["a"], default: new Pickled(new Uint8Array(0), []) }],
  ["dump_cluster_state_to_url", { url: "s3://x", exclude: [], format: "msgpack", anon: true }],
  ["semaphore_register", { name: "x", max_leases: 1, lease_timeout: null }],
  ["check_idle", { op: "check_idle" }],
  ["no-such-op", { anything: 1 }],
])("%s %j passes", (op, message) => {
  check(op, message);
});

test.each<[string, Message, string]>([
  ["gather", {}, "gather: missing field 'keys'"],
  ["gather", { keys: undefined }, "gather: missing field 'keys'"],
  ["gather", { keys: null }, "gather: field 'keys' must be a list of task keys, not None"],
  ["gather", { keys: "abc" }, "gather: field 'keys' must be a list of task keys, not str"],
  ["gather", { keys: [], more: 1 }, "gather: unexpected field 'more' (known: keys)"],
  ["check_idle", { more: 1 }, "check_idle: unexpected field 'more' (known: none)"],
  ["semaphore_register", { name: "x", max_leases: 1 }, "semaphore_register: missing field 'lease_timeout'"],
  ["who_has", { keys: new Map() }, "who_has: field 'keys' must be a list of task keys, not dict"],
  ["add_keys", { worker: new Float(1) }, "add_keys: field 'worker' must be a str, not float"],
  [
    "shuffle_get_or_create",
    { shuffle_id: "a", key: new Map(), worker: "w" },
    "shuffle_get_or_create: field 'key' must be a task key, not dict",
  ],
  ["steal-request", { op: "steal-request", key: "x" }, "steal-request: missing field 'stimulus_id'"],
])("%s %j is refused", (op, message, text) => {
  expect(() => check(op, message)).toThrow(new TypeError(text));
});
