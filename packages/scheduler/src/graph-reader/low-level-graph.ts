/** What `submit` sends, and graphs given as a dict or as several. Read, culled and written task by task. */
import type { Key, Pickled } from "@dask-ts/protocol";
import { KeyNumbers } from "./graph-columns.ts";
import { type NodeFacts, nodeFacts } from "./graph-nodes.ts";
import { LegacyTasks } from "./legacy-tasks.ts";
import { NotKnown } from "./not-known.ts";
import { TASK_SPEC } from "./objects.ts";
import { ChangeOp, NodeKind, type Tape } from "./tape.ts";
import type { TaskWriter } from "./task-writer.ts";

/** Tasks between two pauses. */
const TASKS_PER_STEP = 100;

/** The part of a `Graph` that comes out of the expression. */
export interface GraphTasks {
  readonly keys: Key[];
  readonly ids: string[];
  readonly dependencies: (readonly number[])[];
  readonly externalKeys: Key[];
  readonly externalIds: string[];
  readonly runSpecs: Pickled[];
  readonly flags: Uint8Array;
}

const NO_DEPENDENCIES: readonly number[] = [];

/**
 * @param dsks the nodes of the dicts; several (the layers of a graph) must hold graph nodes, each under a key of its own.
 * @throws {NotKnown}
 */
export function* lowLevelGraph(
  tape: Tape,
  dsks: readonly number[],
  wanted: readonly Key[],
  writer: TaskWriter,
): Generator<undefined, GraphTasks> {
  const keys = new KeyNumbers(tape);
  const keyNodes: number[] = [];
  const values: number[] = [];
  let work = 0;
  for (const dsk of dsks) {
    if (tape.kind[dsk] !== NodeKind.dict) throw new NotKnown("a graph that is no dict");
    for (const [from, count] of tape.operands(dsk, ChangeOp.setitem, ChangeOp.setitems)) {
      for (let i = from; i < from + count; i += 2) {
        const number = keys.of(tape.pool[i] as number);
        const value = tape.pool[i + 1] as number;
        if (dsks.length > 1) {
          // Which layer's task counts, and what text is a key, is for Python to say.
          if (values[number] !== undefined) throw new NotKnown("layers with the same key");
          if (!isNode(tape, value)) throw new NotKnown("layers with tasks that are tuples");
        }
        // a key that comes again keeps its place and gets the new value
        keyNodes[number] ??= tape.pool[i] as number;
        values[number] = value;
        if (++work % (4 * TASKS_PER_STEP) === 0) yield;
      }
    }
  }
  const own = values.length;
  const legacy = new LegacyTasks(tape, keys, own);

  // Cull (distributed.scheduler._cull): what the wanted keys need.
  const place = new Int32Array(own).fill(-1);
  const order: number[] = [];
  const facts: NodeFacts[] = [];
  const stack: number[] = [];
  for (const key of wanted) {
    const number = keys.find(key);
    if (number !== undefined) stack.push(number);
    if (++work % (4 * TASKS_PER_STEP) === 0) yield;
  }
  for (let number = stack.pop(); number !== undefined; number = stack.pop()) {
    if (number >= own || place[number] !== -1) continue;
    if (++work % TASKS_PER_STEP === 0) yield;
    const value = values[number] as number;
    const found = isNode(tape, value) ? nodeFacts(tape, value, keys) : legacy.facts(value);
    if (found.target === number) {
      // an alias of itself stands for a task that is on the cluster already
      place[number] = -2;
      continue;
    }
    place[number] = order.length;
    order.push(number);
    facts.push(found);
    for (const dependency of found.dependencies) stack.push(dependency);
  }

  const n = order.length;
  const graph: GraphTasks = {
    keys: [],
    ids: [],
    dependencies: [],
    externalKeys: [],
    externalIds: [],
    runSpecs: [],
    flags: new Uint8Array(n),
  };
  const externals = new Map<number, number>();
  const placeOf = (number: number): number => {
    const known = number < own ? (place[number] as number) : -1;
    if (known >= 0) return known;
    let external = externals.get(number);
    if (external === undefined) {
      external = n + externals.size;
      externals.set(number, external);
      graph.externalKeys.push(keys.keys[number] as Key);
      graph.externalIds.push(keys.ids[number] as string);
    }
    return external;
  };
  for (let i = 0; i < n; i++) {
    if (++work % TASKS_PER_STEP === 0) yield;
    const number = order[i] as number;
    const value = values[number] as number;
    const { dependencies, flags, func } = facts[i] as NodeFacts;
    graph.keys.push(keys.keys[number] as Key);
    graph.ids.push(keys.ids[number] as string);
    graph.dependencies.push(dependencies.length === 0 ? NO_DEPENDENCIES : dependencies.map(placeOf));
    graph.flags[i] = flags;
    if (isNode(tape, value)) graph.runSpecs.push(writer.task(value, func));
    else {
      writer.begin();
      legacy.write(writer, keyNodes[number] as number, value);
      graph.runSpecs.push(writer.end());
    }
  }
  return graph;
}

function isNode(tape: Tape, node: number): boolean {
  const kind = tape.kind[node];
  if (kind !== NodeKind.newobj && kind !== NodeKind.reduce) return false;
  const name = tape.nameIn(tape.a[node] as number, TASK_SPEC);
  return name !== undefined && name !== "TaskRef";
}
