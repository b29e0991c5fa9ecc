/** Nodes of `dask._task_spec` as they lie in a pickle: what they depend on, and whether they produce data. */
import { TaskFlag } from "../core/graph.ts";
import type { KeyNumbers } from "./graph-columns.ts";
import { NotKnown } from "./not-known.ts";
import { TASK_SPEC } from "./objects.ts";
import { ChangeOp, FALSE, NodeKind, NONE, type Tape, TRUE } from "./tape.ts";

/** Slots of `Task` in the order of its state, which is alphabetical; containers have two more behind `args`. */
const TASK_SLOTS = 9;
const CONTAINER_SLOTS = 11;
const DATA_PRODUCER = 0;
const DEPENDENCIES = 1;
const FUNC = 6;

export interface NodeFacts {
  /** Numbers of the keys it depends on, without repeats. */
  readonly dependencies: readonly number[];
  /** Bits of `TaskFlag`. */
  readonly flags: number;
  /** For a `Task` the node of its function. */
  readonly func: number;
  /** For an alias the number of its target, else -1. */
  readonly target: number;
}

const NO_DEPENDENCIES: readonly number[] = [];

/** @throws {NotKnown} where it is a subclass, or has another form than in the releases that this knows. */
export function nodeFacts(tape: Tape, node: number, keys: KeyNumbers): NodeFacts {
  const name = tape.nameIn(tape.a[node] as number, TASK_SPEC);
  if (tape.kind[node] === NodeKind.newobj) {
    switch (name) {
      case "Task":
        return taskFacts(tape, node, keys, TASK_SLOTS);
      case "List":
      case "Tuple":
      case "Set":
      case "Dict":
        return taskFacts(tape, node, keys, CONTAINER_SLOTS);
      case undefined:
    }
  } else if (tape.kind[node] === NodeKind.reduce && tape.head[node] === 0) {
    const args = tape.b[node] as number;
    if (tape.b[args] === 2) {
      const second = tape.item(args, 1);
      if (name === "Alias") {
        const target = keys.of(second === NONE ? tape.item(args, 0) : second);
        return { dependencies: [target], flags: 0, func: 0, target };
      }
      if (name === "DataNode") {
        return { dependencies: NO_DEPENDENCIES, flags: TaskFlag.dataProducer, func: 0, target: -1 };
      }
    }
  }
  throw new NotKnown(`a graph node of an unknown kind: ${name}`);
}

function taskFacts(tape: Tape, node: number, keys: KeyNumbers, slots: number): NodeFacts {
  const change = tape.head[node] as number;
  if (
    tape.b[tape.b[node] as number] !== 0 ||
    tape.changeOp[change] !== ChangeOp.build ||
    tape.changeNext[change] !== 0
  ) {
    throw new NotKnown("a Task of an unknown form");
  }
  const first = stateOf(tape, tape.pool[tape.changeAt[change] as number] as number, slots);
  const producer = tape.pool[first + DATA_PRODUCER];
  if (producer !== TRUE && producer !== FALSE) throw new NotKnown("a Task of an unknown form");
  return {
    dependencies: dependenciesOf(tape, tape.pool[first + DEPENDENCIES] as number, keys),
    flags: producer === TRUE ? TaskFlag.dataProducer : 0,
    func: slots === TASK_SLOTS ? (tape.pool[first + FUNC] as number) : 0,
    target: -1,
  };
}

/** Where the state's items start in the pool: a tuple for tasks, a list for containers. */
function stateOf(tape: Tape, state: number, slots: number): number {
  if (tape.kind[state] === NodeKind.tuple && tape.b[state] === slots) return tape.a[state] as number;
  if (tape.kind[state] === NodeKind.list) {
    const change = tape.head[state] as number;
    if (change !== 0 && tape.changeNext[change] === 0 && tape.changeCount[change] === slots) {
      return tape.changeAt[change] as number;
    }
  }
  throw new NotKnown("a Task whose state has an unknown form");
}

function dependenciesOf(tape: Tape, node: number, keys: KeyNumbers): readonly number[] {
  if (tape.kind[node] !== NodeKind.frozenset) throw new NotKnown("a Task whose dependencies are no frozenset");
  const count = tape.b[node] as number;
  if (count === 0) return NO_DEPENDENCIES;
  const numbers: number[] = [];
  for (let i = 0; i < count; i++) numbers.push(keys.of(tape.item(node, i)));
  return count === 1 ? numbers : withoutRepeats(numbers);
}

export function withoutRepeats(numbers: readonly number[]): readonly number[] {
  return numbers.length > 1 ? [...new Set(numbers)] : numbers;
}
