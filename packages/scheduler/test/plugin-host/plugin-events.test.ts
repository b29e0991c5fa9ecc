import type { Value } from "@dask-ts/protocol";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { PluginEvents } from "../../src/plugin-host/plugin-events.ts";
import { taskFacts } from "../../src/server/view-facts.ts";
import { TestCore } from "../core/builders.ts";

let core: TestCore;
let sent: Value[][];
let acknowledge: (() => void)[];
let warnings: string[];
let events: PluginEvents;

beforeEach(() => {
  core = new TestCore();
  sent = [];
  acknowledge = [];
  warnings = [];
  events = new PluginEvents({
    core: core.core,
    send: (rows) => {
      sent.push([...rows]);
      return new Promise((resolve) => acknowledge.push(resolve));
    },
    warn: (line) => warnings.push(line),
    lastFacts: taskFacts,
  });
});

function hooksOf(rows: readonly Value[]): Value[] {
  return rows.map((row) => (row as readonly Value[])[0] as Value);
}

/** Transitions as (key, start, finish). */
function transitionsOf(rows: readonly Value[]): string[] {
  return rows
    .filter((row) => (row as readonly Value[])[0] === "transition")
    .map((row) => (row as readonly Value[]).slice(1, 4).map(String).join(" "));
}

function computeOne(): void {
  core.addClient();
  core.addWorker("a");
  core.submit({ x: [] }, ["x"]);
  core.finish("a", "x");
}

describe("what nobody wants to hear of", () => {
  it("costs no listener", async () => {
    const before = Object.values(core.core.listeners).map((list) => list.length);
    events.setHooks(["transition", "add_worker", "update_graph", "remove_worker", "remove_client", "restart"]);
    expect(Object.values(core.core.listeners).map((list) => list.length)).not.toEqual(before);
    events.setHooks([]);
    expect(Object.values(core.core.listeners).map((list) => list.length)).toEqual(before);
    computeOne();
    events.addClient("client");
    events.logEvent("topic", 1);
    await events.flush();
    expect(sent).toEqual([]);
  });
});

describe("what happens", () => {
  it("is told in order, with what the message said", async () => {
    events.setHooks(["transition", "add_worker", "update_graph", "add_client", "log_event"]);
    computeOne();
    events.addClient("client");
    events.logEvent("topic", 1);
    await events.flush();
    const rows = sent.flat();
    expect(hooksOf(rows)).toEqual([
      "add_worker",
      "update_graph_part",
      "update_graph",
      "transition",
      "transition",
      "transition",
      "add_client",
      "log_event",
    ]);
    expect(transitionsOf(rows)).toEqual(["x released waiting", "x waiting processing", "x processing memory"]);
    const [, keys, tasks, priorities] = rows[1] as Value[];
    expect([keys, tasks]).toEqual([["x"], ["x"]]);
    expect(priorities).toHaveLength(1);
    const extra = (rows[5] as Value[])[5] as ReadonlyMap<Value, Value>;
    expect(extra.get("worker")).toBe(core.core.state.taskOf("x")?.whoHas.items[0]?.address);
    expect([...extra.keys()]).not.toContain("op");
    expect(extra.get("nbytes")).toBeDefined();
  });

  it("says what a forgotten task was", async () => {
    events.setHooks(["transition"]);
    computeOne();
    core.release("x");
    await events.flush();
    const last = sent.flat().at(-1) as Value[];
    expect(last.slice(1, 4)).toEqual(["x", "memory", "forgotten"]);
    expect((last[6] as ReadonlyMap<Value, Value>).get("prefix")).toBe("x");
  });

  it("waits while the plugins are busy, and goes over as one batch then", async () => {
    events.setHooks(["log_event"]);
    events.logEvent("topic", 0);
    await vi.waitFor(() => expect(sent).toHaveLength(1));
    for (let i = 1; i <= 3; i++) events.logEvent("topic", i);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toHaveLength(1);
    acknowledge[0]?.();
    await vi.waitFor(() => expect(sent).toHaveLength(2));
    expect(sent[1]).toHaveLength(3);
  });

  it("is handed over before a call, however busy the plugins are", async () => {
    events.setHooks(["log_event"]);
    events.logEvent("topic", 0);
    await events.flush();
    events.logEvent("topic", 1);
    await events.flush();
    expect(sent.flat()).toHaveLength(2);
  });
});

describe("plugins that do not keep up", () => {
  it("lose what is past the limit, with two lines in the log", async () => {
    events.setHooks(["log_event"]);
    events.logEvent("topic", 0);
    await events.flush();
    for (let i = 0; i < 200_005; i++) events.logEvent("topic", i);
    expect(warnings).toEqual([expect.stringContaining("200000 events wait for them")]);
    acknowledge[0]?.();
    await vi.waitFor(() => expect(sent.length).toBeGreaterThan(1));
    await events.flush();
    expect(sent.reduce((n, rows) => n + rows.length, 0)).toBe(200_001);
    expect(warnings[1]).toBe("5 events for scheduler plugins were dropped");
    expect(Math.max(...sent.map((rows) => rows.length))).toBeLessThanOrEqual(2_000);
  });
});

it("sends a large graph in parts", async () => {
  events.setHooks(["update_graph"]);
  core.addClient();
  const names = Array.from({ length: 5_000 }, (_, i) => `x-${i}`);
  core.submit(Object.fromEntries(names.map((name) => [name, []])), names);
  await events.flush();
  const rows = sent.flat() as Value[][];
  expect(hooksOf(rows)).toEqual(["update_graph_part", "update_graph_part", "update_graph_part", "update_graph"]);
  expect(rows.flatMap((row) => (row.length > 3 ? row[2] : [])).length).toBe(5_000);
});
