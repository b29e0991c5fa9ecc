/** `HLGExpr`: what `delayed` sends. Its layers, where all are dicts already, make one low-level graph. */
import { type Key, keyId } from "@dask-ts/protocol";
import { type GraphTasks, lowLevelGraph } from "./low-level-graph.ts";
import { NotKnown } from "./not-known.ts";
import { keyOf } from "./plain-values.ts";
import { ChangeOp, NodeKind, NONE, type Tape } from "./tape.ts";
import type { TaskWriter } from "./task-writer.ts";

const K = NodeKind;
const HIGH_LEVEL_GRAPH = "dask.highlevelgraph";
/** dsk, low_level_optimizer, output_keys, postcompute, _cached_optimized; then the token and the cache. */
const OPERANDS = 7;
/** What a layer holds; `has_legacy_tasks` is a property that it has worked out. */
const LAYER_FIELDS: ReadonlySet<string> = new Set([
  "annotations",
  "collection_annotations",
  "has_legacy_tasks",
  "mapping",
]);
const LAYERS_PER_STEP = 200;

/**
 * Where nothing but culling is asked for (`dask.delayed.optimize`, or no optimizer), the graph of these expressions is
 * the tasks of all their layers together (_HLGExprSequence._optimized_dsk), culled to the wanted keys.
 *
 * @param expressions the nodes of the `HLGExpr`s.
 * @throws {NotKnown}
 */
export function* layeredGraph(
  tape: Tape,
  expressions: readonly number[],
  wanted: readonly Key[],
  writer: TaskWriter,
): Generator<undefined, GraphTasks> {
  const mappings = new Set<number>();
  const outputs = new Set<string>();
  let work = 0;
  for (const expression of expressions) {
    const args = argumentsOf(tape, expression);
    const optimizer = tape.item(args, 2);
    if (optimizer !== NONE && !tape.isGlobal(optimizer, "dask.delayed", "optimize")) {
      throw new NotKnown("a graph that is to be optimized");
    }
    if (tape.item(args, 5) !== NONE) throw new NotKnown("a graph that was optimized before");
    outputKeys(tape, tape.item(args, 3), outputs);
    for (const mapping of layersOf(tape, tape.item(args, 1))) {
      mappings.add(mapping);
      if (++work % LAYERS_PER_STEP === 0) yield;
    }
  }
  // Its optimizer has culled to the outputs before the scheduler culls to what is wanted.
  for (const key of wanted) if (!outputs.has(keyId(key))) throw new NotKnown("a wanted key that is no output");
  return yield* lowLevelGraph(tape, [...mappings], wanted, writer);
}

function argumentsOf(tape: Tape, expression: number): number {
  const args = tape.b[expression] as number;
  const isExpr =
    tape.kind[expression] === K.reduce &&
    tape.head[expression] === 0 &&
    tape.isGlobal(tape.a[expression] as number, "dask._expr", "Expr._reconstruct") &&
    ["HLGExpr", "_HLGExprGroup"].includes(tape.nameIn(tape.item(args, 0), "dask._expr") ?? "");
  const cache = tape.item(args, OPERANDS);
  if (!isExpr || tape.b[args] !== OPERANDS + 1 || tape.kind[cache] !== K.dict || tape.head[cache] !== 0)
    throw new NotKnown("an expression of an unknown form");
  return args;
}

/** `output_keys`: keys in lists that may nest. */
function outputKeys(tape: Tape, node: number, into: Set<string>, depth = 0): void {
  if (tape.kind[node] !== K.list || depth > 8) {
    into.add(keyId(keyOf(tape, node)));
    return;
  }
  for (const item of tape.items(node)) outputKeys(tape, item, into, depth + 1);
}

/** The nodes of the layers' dicts. */
function* layersOf(tape: Tape, graph: number): Generator<number, undefined> {
  const layers = stateOf(tape, graph, "HighLevelGraph").get("layers");
  if (layers === undefined || tape.kind[layers] !== K.dict) throw new NotKnown("a graph of layers of an unknown form");
  for (const [from, count] of tape.operands(layers, ChangeOp.setitem, ChangeOp.setitems)) {
    for (let i = from + 1; i < from + count; i += 2) {
      const state = stateOf(tape, tape.pool[i] as number, "MaterializedLayer");
      const mapping = state.get("mapping");
      const annotations = state.get("annotations");
      for (const name of state.keys()) if (!LAYER_FIELDS.has(name)) throw new NotKnown(`a layer with ${name}`);
      if (mapping === undefined) throw new NotKnown("a layer of an unknown form");
      if (annotations !== NONE && annotations !== undefined) throw new NotKnown("a layer with annotations");
      yield mapping;
    }
  }
  return undefined;
}

/** The attributes of an object that was made without arguments. */
function stateOf(tape: Tape, node: number, className: string): ReadonlyMap<string, number> {
  const change = tape.head[node] as number;
  if (
    tape.kind[node] !== K.newobj ||
    !tape.isGlobal(tape.a[node] as number, HIGH_LEVEL_GRAPH, className) ||
    tape.b[tape.b[node] as number] !== 0 ||
    tape.changeOp[change] !== ChangeOp.build ||
    tape.changeNext[change] !== 0
  ) {
    throw new NotKnown(`no plain ${className}`);
  }
  const dict = tape.pool[tape.changeAt[change] as number] as number;
  if (tape.kind[dict] !== K.dict) throw new NotKnown(`a ${className} of an unknown form`);
  const state = new Map<string, number>();
  for (const [from, count] of tape.operands(dict, ChangeOp.setitem, ChangeOp.setitems)) {
    for (let i = from; i < from + count; i += 2)
      state.set(tape.text(tape.pool[i] as number), tape.pool[i + 1] as number);
  }
  return state;
}
