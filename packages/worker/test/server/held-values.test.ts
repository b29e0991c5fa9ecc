import { expect, test } from "vitest";
import { HeldValues } from "../../src/server/held-values.ts";

test("a drop waits for the last task that uses the value", () => {
  const held = new HeldValues();
  held.use(["x", "y"]);
  held.use(["x"]);
  expect(held.droppable(["x", "y", "z"])).toEqual(["z"]);
  expect(held.release(["x", "y"])).toEqual(["y"]);
  expect(held.release(["x"])).toEqual(["x"]);
  expect(held.droppable(["x"])).toEqual(["x"]);
});

test("a value that is stored again is not dropped in place of the old one", () => {
  const held = new HeldValues();
  held.use(["x"]);
  expect(held.droppable(["x"])).toEqual([]);
  held.store("x");
  expect(held.release(["x"])).toEqual([]);
});
