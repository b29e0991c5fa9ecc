/** Tasks and replicas at chosen places, for the tests of the active memory manager. */
import type { Value } from "@dask-ts/protocol";
import type { TaskState } from "../../../src/core/task-state.ts";
import { graphOf, type GraphSpec, type TestCore } from "../builders.ts";

/** Wanted tasks, each on the worker of that name. */
export function submitTasksOn(test: TestCore, spec: GraphSpec, places: Record<string, string>): void {
  const annotations = Object.fromEntries(
    Object.entries(places).map(([key, name]) => [key, new Map<Value, Value>([["workers", [`tcp://${name}:1`]]])]),
  );
  test.submitGraph(graphOf(spec, { annotations }), Object.keys(places));
}

/** A result on the first of the workers, with replicas on the others. */
export function holdOn(test: TestCore, key: string, holders: readonly string[], nbytes = 10): TaskState {
  const [first, ...others] = holders;
  submitTasksOn(test, { [key]: [] }, { [key]: String(first) });
  test.finish(String(first), key, { nbytes });
  for (const name of others) test.fromWorker(name, { op: "add-keys", keys: [key] });
  for (const name of holders) test.takeWorker(name);
  return test.task(key);
}
