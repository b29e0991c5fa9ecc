import { expect, test } from "vitest";
import { formatRecord, levelName, Logger, LogRing, plainText } from "../../src/server/log.ts";

test("lines look as stock's", () => {
  const line = formatRecord({ created: 1.5, level: "INFO", logger: "distributed.worker", message: "hello" });
  expect(line).toMatch(/^1970-01-01 \d\d:\d\d:01,500 - distributed\.worker - INFO - hello$/);
});

test("get_logs: newest first, at most n, from a time on, with times where asked", () => {
  const ring = new LogRing(3);
  for (let i = 0; i < 10; i++) ring.add({ created: i, level: "INFO", logger: "l", message: `m${i}` });
  const texts = (logs: unknown): string[] => (logs as string[][]).map((entry) => String(entry.at(-1)).slice(-2));
  expect(texts(ring.get())).toEqual(["m9", "m8", "m7"]);
  expect(texts(ring.get(0, 2))).toEqual(["m9", "m8"]);
  expect(texts(ring.get(9, null))).toEqual(["m9"]);
  const [first] = ring.get(0, 1, true) as [[{ value: number }, string, string]];
  expect([first[0].value, first[1]]).toEqual([9, "INFO"]);
  expect(ring.lines()).toHaveLength(3);
});

test("what the executor has formatted is not formatted twice", () => {
  expect(plainText("2026-11-21 13:45:19,200 - distributed.worker - INFO - Starting Worker plugin x")).toBe(
    "Starting Worker plugin x",
  );
  expect(plainText("a - b - c")).toBe("a - b - c");
  expect([levelName("warn"), levelName("Error"), levelName("?")]).toEqual(["WARNING", "ERROR", "INFO"]);
});

test("an error brings its cause", () => {
  const ring = new LogRing(3);
  const log = new Logger("l", [(record) => ring.add(record)]);
  log.error("it failed", new Error("outer", { cause: new Error("inner") }));
  expect(ring.lines()[0]).toContain("inner");
});
