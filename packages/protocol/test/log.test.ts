import { expect, test } from "vitest";
import { formatRecord, levelName, Logger, LogRing } from "../src/log.ts";

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

test("a level's name in any spelling", () => {
  expect([levelName("warn"), levelName("Error"), levelName("?")]).toEqual(["WARNING", "ERROR", "INFO"]);
});

test("an error brings its cause", () => {
  const ring = new LogRing(3);
  const log = new Logger("l", ring.sink);
  log.debug("not kept");
  log.error("it failed", new Error("outer", { cause: new Error("inner") }));
  expect(ring.lines()[0]).toContain("inner");
});
