import { expect, test } from "vitest";
import { Outbox } from "../../src/core/outbox.ts";

test("keys that one event frees one after the other share a message", () => {
  const outbox = new Outbox();
  outbox.freeKey("a", "x", "s1");
  outbox.freeKey("b", "x", "s1");
  outbox.freeKey("a", ["y", 1], "s1");
  expect(outbox.toWorkers.get("a")).toEqual([{ op: "free-keys", keys: ["x", ["y", 1]], stimulus_id: "s1" }]);
  expect(outbox.toWorkers.get("b")).toEqual([{ op: "free-keys", keys: ["x"], stimulus_id: "s1" }]);
});

test("not across another message, another cause, or a flush", () => {
  const outbox = new Outbox();
  outbox.freeKey("a", "x", "s1");
  outbox.worker("a", { op: "compute-task", key: "x" });
  outbox.freeKey("a", "x", "s1");
  outbox.freeKey("a", "y", "s2");
  const sent = outbox.toWorkers.get("a");
  outbox.clear();
  outbox.freeKey("a", "z", "s2");
  expect(sent?.map((message) => message["keys"])).toEqual([["x"], undefined, ["x"], ["y"]]);
  expect(outbox.toWorkers.get("a")?.map((message) => message["keys"])).toEqual([["z"]]);
});
