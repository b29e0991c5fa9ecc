import { expect, it } from "vitest";
import { State } from "../../src/core/index.ts";
import { graphOf, TestCore } from "./builders.ts";

function cluster(computationsMaxHistory = 100): TestCore {
  const test = new TestCore({ computationsMaxHistory });
  test.addClient();
  test.addWorker("a");
  return test;
}

it("a computation takes what is submitted while anything is under way; then a new one begins", () => {
  const test = cluster();
  const { computations } = test.core.state;
  test.submit({ x: [] }, ["x"]);
  test.submit({ y: [] }, ["y"]);
  expect(computations.length).toBe(1);
  expect([...(computations[0]?.groups ?? [])].map((group) => group.name)).toEqual(["x", "y"]);
  test.finish("a", "x", { duration: 1 });
  test.finish("a", "y", { duration: 2 });
  expect(computations[0]).toMatchObject({ start: 1000, stop: 1002 });
  expect(computations[0]?.states[State.memory]).toBe(2);
  test.submit({ z: [] }, ["z"]);
  expect(computations.length).toBe(2);
  expect(computations[1]?.stop).toBe(0);
  expect(new Set(computations.map(({ id }) => id)).size).toBe(2);
  expect(computations[0]?.id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
});

it("code is kept once and sorted", () => {
  const test = cluster();
  const submit = (key: string, text: string): void => {
    test.submitGraph({ ...graphOf({ [key]: [] }), code: [[text, 1, 0, "f.py"]] }, [key]);
  };
  submit("x", "b");
  submit("y", "a");
  submit("z", "b");
  expect(test.core.state.computations[0]?.code).toEqual([[["a", 1, 0, "f.py"]], [["b", 1, 0, "f.py"]]]);
});

it("only the last computations are kept", () => {
  const test = cluster(2);
  for (const key of ["x", "y", "z"]) {
    test.submit({ [key]: [] }, [key]);
    test.finish("a", key);
  }
  const groups = test.core.state.computations.map((computation) => [...computation.groups][0]?.name);
  expect(groups).toEqual(["y", "z"]);
});
