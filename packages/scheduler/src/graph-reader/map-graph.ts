/** `_MapExpr`: what `Client.map` sends. Its tasks are made here (distributed.client._MapExpr._layer). */
import { Budget } from "./budget.ts";
import { KeyNumbers } from "./graph-columns.ts";
import { withoutRepeats } from "./graph-nodes.ts";
import type { GraphTasks } from "./low-level-graph.ts";
import { NotKnown } from "./not-known.ts";
import { futureKey, objectClass, TASK_SPEC } from "./objects.ts";
import type { Prelude } from "./pickle-writer.ts";
import { smallInteger } from "./plain-values.ts";
import { ChangeOp, NodeKind, type Tape } from "./tape.ts";
import type { TaskWriter } from "./task-writer.ts";

const TASKS_PER_STEP = 250;
const MAX_DEPTH = 200;
/** Places in one argument. */
const MAX_PLACES = 50_000;
/** From this size on `_MapExpr` makes a task of its own of an argument that all tasks share. */
const LARGE_KWARG = 1e5;

const K = NodeKind;
const MARK = 0x28;

/** The operands of the expression, as nodes. */
export interface MapOperands {
  readonly func: number;
  readonly iterables: number;
  readonly kwargs: number;
  readonly keys: number;
}

/** @throws {NotKnown} */
export function* mapGraph(tape: Tape, operands: MapOperands, writer: TaskWriter): Generator<undefined, GraphTasks> {
  const inputs = new Inputs(tape);
  const iterables = [...tape.items(operands.iterables)].map((node) => elementsOf(tape, node));
  if (tape.kind[operands.keys] !== K.list) throw new NotKnown("a map without its keys");
  const keyNodes = tape.items(operands.keys);
  // zip of keys and elements: the shortest counts, and no iterables give no tasks
  const n = iterables.length === 0 ? 0 : Math.min(keyNodes.length, ...iterables.map(({ length }) => length));
  checkFunc(tape, operands.func);
  const common: number[] = [];
  const [head, middle] = preludes(tape, operands, inputs, writer, common);

  const keys = new KeyNumbers(tape);
  const runSpecs: GraphTasks["runSpecs"] = [];
  const keyDependencies: (readonly number[])[] = [];
  const futures: number[] = [];
  const single = iterables.length === 1 ? iterables[0] : undefined;
  for (let i = 0; i < n; i++) {
    if (i % TASKS_PER_STEP === 0) yield;
    const keyNode = keyNodes[i] as number;
    const number = keys.of(keyNode);
    writer.begin();
    writer.putPrelude(head);
    if (tape.kind[keyNode] === K.str) writer.raw(tape.bytes, tape.a[keyNode] as number, tape.b[keyNode] as number);
    else writer.withoutMemo(keyNode);
    writer.raw(middle, 0, middle.length);
    futures.length = 0;
    if (single !== undefined) single.write(i, inputs, writer, futures);
    else for (const elements of iterables) elements.write(i, inputs, writer, futures);
    writer.endCall();
    // a key that comes again keeps its place and gets the new task
    runSpecs[number] = writer.end();
    if (futures.length > 0 || common.length > 0) keyDependencies[number] = [...common, ...futures];
    else if (keyDependencies[number] !== undefined) keyDependencies[number] = [];
  }
  return yield* columns(keys, runSpecs, keyDependencies);
}

/** From nodes of keys to numbers of tasks. */
function* columns(
  keys: KeyNumbers,
  runSpecs: GraphTasks["runSpecs"],
  keyDependencies: readonly (readonly number[] | undefined)[],
): Generator<undefined, GraphTasks> {
  const n = runSpecs.length;
  const dependencies: (readonly number[])[] = [];
  const none: readonly number[] = [];
  for (let i = 0; i < n; i++) {
    if (i % TASKS_PER_STEP === 0) yield;
    const nodes = keyDependencies[i];
    if (nodes === undefined || nodes.length === 0) dependencies.push(none);
    else dependencies.push(withoutRepeats(nodes.map((node) => keys.of(node))));
  }
  return {
    keys: keys.keys.slice(0, n),
    ids: keys.ids.slice(0, n),
    dependencies,
    externalKeys: keys.keys.slice(n),
    externalIds: keys.ids.slice(n),
    runSpecs,
    flags: new Uint8Array(n),
  };
}

/**
 * What all tasks have in common: up to the key, and from there to the arguments.
 *
 * The parts are written in one go, so that the function finds what the keyword arguments have left in the memo.
 */
function preludes(
  tape: Tape,
  { func, kwargs }: MapOperands,
  inputs: Inputs,
  writer: TaskWriter,
  futures: number[],
): [Prelude, Buffer] {
  if (tape.kind[kwargs] !== K.dict) throw new NotKnown("keyword arguments that are no dict");
  const pairs: number[] = [];
  for (const [from, count] of tape.operands(kwargs, ChangeOp.setitem, ChangeOp.setitems)) {
    for (let i = from; i < from + count; i += 2) {
      if (tape.text(tape.pool[i] as number) === "_data_producer") throw new NotKnown("a map of data producers");
      const value = tape.pool[i + 1] as number;
      if (inputs.sizeof(value) > LARGE_KWARG) throw new NotKnown("a large keyword argument");
      pairs.push(tape.pool[i] as number, value);
    }
  }
  const alone = writer.prelude(() => writer.node(func), func);
  let split = 0;
  const whole = writer.prelude(() => {
    if (pairs.length === 0) writer.globalName(TASK_SPEC, "Task");
    else {
      writer.partialTask(() => {
        for (let i = 0; i < pairs.length; i += 2) {
          writer.node(pairs[i] as number);
          inputs.write(pairs[i + 1] as number, writer, futures);
        }
      });
    }
    writer.op(MARK);
    split = writer.written;
    if (!alone.apart) writer.node(func);
  }, undefined);
  if (!alone.apart) return [{ ...whole, bytes: whole.bytes.subarray(0, split) }, whole.bytes.subarray(split)];
  const head = {
    ...whole,
    frames: [...whole.frames, ...alone.frames],
    remembered: [...whole.remembered, ...alone.remembered],
  };
  return [head, alone.bytes];
}

function checkFunc(tape: Tape, func: number): void {
  const kind = tape.kind[func] as number;
  if (kind === K.global) return;
  if (kind === K.reduce || kind === K.newobj) {
    const callee = tape.globalOf(tape.a[func] as number);
    // "Cannot nest tasks"
    if (callee !== undefined && callee.module !== TASK_SPEC) return;
  }
  throw new NotKnown("a map of something that may be no function");
}

/** One of the iterables of a map. */
interface Elements {
  readonly length: number;
  write(i: number, inputs: Inputs, writer: TaskWriter, futures: number[]): void;
}

function elementsOf(tape: Tape, node: number): Elements {
  if (tape.kind[node] === K.reduce && tape.isGlobal(tape.a[node] as number, "builtins", "range")) {
    return range(tape, node);
  }
  if (tape.kind[node] !== K.list && tape.kind[node] !== K.tuple) throw new NotKnown("an iterable of an unknown kind");
  const items = tape.items(node);
  return {
    length: items.length,
    write: (i, inputs, writer, futures) => inputs.write(items[i] as number, writer, futures),
  };
}

function range(tape: Tape, node: number): Elements {
  const args = tape.b[node] as number;
  if (tape.b[args] !== 3 || tape.head[node] !== 0) throw new NotKnown("a range of an unknown form");
  const start = smallInteger(tape, tape.item(args, 0));
  const stop = smallInteger(tape, tape.item(args, 1));
  const step = smallInteger(tape, tape.item(args, 2));
  if (step === 0) throw new NotKnown("a range that goes nowhere");
  return {
    length: Math.max(0, Math.ceil((stop - start) / step)),
    write: (i, _inputs, writer) => writer.int(start + i * step),
  };
}

/** `parse_input` (dask/_task_spec.py): futures, and containers that hold some, become nodes. */
class Inputs {
  readonly #tape: Tape;
  /** Whether a container holds futures; null while it is being looked at. */
  readonly #containers: Map<number, boolean | null> = new Map();
  #budget: Budget = new Budget(0);

  constructor(tape: Tape) {
    this.#tape = tape;
  }

  /** @param futures gets the nodes of the keys of the futures. */
  write(node: number, writer: TaskWriter, futures: number[]): void {
    if ((this.#tape.kind[node] as number) < K.bytearray || !this.#holdsFutures(node, 0)) writer.node(node);
    else {
      this.#budget = new Budget(MAX_PLACES);
      this.#writeParsed(node, writer, futures);
    }
  }

  #holdsFutures(node: number, depth: number): boolean {
    if (depth > MAX_DEPTH) throw new NotKnown("arguments that nest too deep");
    const tape = this.#tape;
    const kind = tape.kind[node] as number;
    if (kind < K.global || kind === K.frozenset) return false;
    if (kind < K.tuple || kind > K.set) {
      const found = objectClass(tape, node, false);
      if (found === "graph-node") throw new NotKnown("a map over graph nodes");
      return found === "future";
    }
    let holds = this.#containers.get(node);
    if (holds === null) throw new NotKnown("arguments with a cycle");
    if (holds === undefined) {
      this.#containers.set(node, null);
      holds = false;
      if (kind === K.dict) {
        for (const [from, count] of tape.operands(node, ChangeOp.setitem, ChangeOp.setitems)) {
          for (let i = from + 1; i < from + count; i += 2) {
            if (this.#holdsFutures(tape.pool[i] as number, depth + 1)) holds = true;
          }
        }
      } else {
        for (const item of tape.items(node)) if (this.#holdsFutures(item, depth + 1)) holds = true;
      }
      this.#containers.set(node, holds);
    }
    return holds;
  }

  #writeParsed(node: number, writer: TaskWriter, futures: number[]): void {
    this.#budget.take();
    const tape = this.#tape;
    if (!this.#holdsFutures(node, 0)) {
      writer.node(node);
      return;
    }
    switch (tape.kind[node]) {
      case K.list:
      case K.tuple:
      case K.set:
        writer.callTaskSpec(tape.kind[node] === K.list ? "List" : tape.kind[node] === K.set ? "Set" : "Tuple");
        for (const item of tape.items(node)) this.#writeParsed(item, writer, futures);
        writer.endCall();
        return;
      case K.dict:
        writer.callTaskSpec("Dict");
        writer.op(0x7d);
        writer.op(MARK);
        for (const [from, count] of tape.operands(node, ChangeOp.setitem, ChangeOp.setitems)) {
          for (let i = from; i < from + count; i += 2) {
            writer.node(tape.pool[i] as number);
            this.#writeParsed(tape.pool[i + 1] as number, writer, futures);
          }
        }
        writer.op(0x75);
        writer.endCall();
        return;
      default: {
        const key = futureKey(tape, node);
        futures.push(key);
        writer.callTaskSpec("Alias");
        writer.node(key);
        writer.endCall();
      }
    }
  }

  /** At least `dask.sizeof.sizeof`. */
  sizeof(node: number, depth = 0): number {
    if (depth === 0) this.#budget = new Budget(MAX_PLACES);
    else if (depth > 20) return Number.POSITIVE_INFINITY;
    this.#budget.take();
    const tape = this.#tape;
    const kind = tape.kind[node] as number;
    if (kind < K.global) return 80 + 4 * ((tape.b[node] as number) - (tape.a[node] as number));
    if (kind >= K.tuple && kind <= K.frozenset) {
      let largest = 0;
      let items = 0;
      const values =
        kind === K.dict
          ? [...tape.operands(node, ChangeOp.setitem, ChangeOp.setitems)].flatMap(([from, count]) => [
              ...tape.pool.subarray(from, from + count),
            ])
          : tape.items(node);
      for (const value of values) {
        largest = Math.max(largest, this.sizeof(value, depth + 1));
        if (++items > 10_000 || largest > LARGE_KWARG) return Number.POSITIVE_INFINITY;
      }
      // it takes samples: all items may count as much as the largest
      return 300 + items * (200 + largest);
    }
    const found = objectClass(tape, node, false);
    return found === "callable" || found === "future" ? 2_000 : Number.POSITIVE_INFINITY;
  }
}
