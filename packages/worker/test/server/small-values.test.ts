import { expect, test } from "vitest";
import { SmallValues } from "../../src/server/small-values.ts";

test("values are there until their keys have none any more, None among them", () => {
  const values = new SmallValues();
  values.set("a", null);
  values.set("b", 1);
  expect(values.get("a")).toBe(null);
  values.delete(["b", "never there"]);
  expect(values.get("b")).toBe(undefined);
});

test("not more than a given number is held", () => {
  const values = new SmallValues(2);
  for (const id of ["a", "b", "c"]) values.set(id, 1);
  expect(values.get("b")).toBe(1);
  expect(values.get("c")).toBe(undefined);
});
