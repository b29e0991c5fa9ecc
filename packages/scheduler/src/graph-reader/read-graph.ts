/** The fields of an `update-graph` as a {@link Graph}, without Python, where they hold nothing but what is known here. */
import { decodeSubHeader, Pickled, type Serialized, type Value } from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";
import type { OpenGraphRequest } from "../graph-host/graph-host.ts";
import type { KnownGlobals } from "./known-globals.ts";
import { type GraphTasks, lowLevelGraph } from "./low-level-graph.ts";
import { layeredGraph } from "./layered-graph.ts";
import { mapGraph } from "./map-graph.ts";
import { NotKnown } from "./not-known.ts";
import { PickleReader } from "./pickle-reader.ts";
import { plainValue } from "./plain-values.ts";
import { RunSpecBytes } from "./run-spec-bytes.ts";
import { ChangeOp, type GlobalName, NodeKind, Tape } from "./tape.ts";
import { TaskWriter } from "./task-writer.ts";

/** Opcodes between two pauses. */
const OPCODES_PER_STEP = 4_096;
/** A graph of at least so many bytes gets memory of its own for its run_specs. */
const LARGE_GRAPH = 16 * 1024;
const SLAB = 256 * 1024;
/** The most that a small task may keep alive besides itself, as Node's own pool for small buffers. */
const SMALL_SLAB = 8 * 1024;

export type GraphReading =
  | { readonly graph: Graph }
  | {
      /** Why the graph host has to take it. */
      readonly notKnown: string;
      /** Names to be learned where the graph host can open it. */
      readonly names: readonly GlobalName[];
    };

/** Reads graphs. What it keeps between two of them is memory, and which names are known. */
export class GraphPickles {
  readonly known: KnownGlobals;
  /** `optimization.fuse.delayed`: whether `dask.delayed.optimize` does more than cull. */
  readonly #fusesDelayed: boolean;
  readonly #small: RunSpecBytes = new RunSpecBytes(SMALL_SLAB);
  /** One that is not in use. */
  #tape: Tape | undefined;
  readonly #plain: PlainPickles = new PlainPickles();

  constructor(known: KnownGlobals, fusesDelayed = false) {
    this.known = known;
    this.#fusesDelayed = fusesDelayed;
  }

  /**
   * Steps of some hundred microseconds; nothing is shared with others between two of them.
   *
   * @param codeFits whether functions pickled by value can be opened where the tasks run: the same Python release.
   */
  *read(request: OpenGraphRequest, codeFits: boolean): Generator<undefined, GraphReading> {
    const tape = this.#tape ?? new Tape();
    this.#tape = undefined;
    try {
      return yield* this.#read(request, codeFits, tape);
    } catch (error) {
      // Whatever it is that went wrong here: Python decides.
      const text = error instanceof Error ? error.message : String(error);
      return { notKnown: error instanceof NotKnown ? text : `unexpectedly, ${text}`, names: [] };
    } finally {
      tape.release();
      this.#plain.release();
      this.#tape = tape;
    }
  }

  *#read(request: OpenGraphRequest, codeFits: boolean, tape: Tape): Generator<undefined, GraphReading> {
    const pickle = pickleOf(request.exprSer);
    const buffers = request.exprSer.frames.slice(1);
    const code = this.#plain.code(request.code ?? null);
    const annotations = this.#plain.annotations(request.annotations ?? null);
    const spanMetadata = this.#plain.metadata(request.spanMetadata ?? null);

    const reader = new PickleReader(tape, pickle, buffers.length);
    let root = reader.step(OPCODES_PER_STEP);
    while (root === 0) {
      yield;
      root = reader.step(OPCODES_PER_STEP);
    }
    if (tape.hasOddCalls) throw new NotKnown("an object of a class that is pickled by value");
    if (!codeFits && tape.globals.some(({ module, name }) => name === "_make_function" && module.startsWith("cloud"))) {
      throw new NotKnown("a function pickled by value by another release of Python");
    }
    const unknown = this.known.unknown(tape);
    if (unknown.length > 0) {
      const { module, name } = unknown[0] as GlobalName;
      return { notKnown: `${module}.${name} was not met before`, names: unknown };
    }
    const out = pickle.length < LARGE_GRAPH ? this.#small : new RunSpecBytes(SLAB);
    const tasks = yield* expressionTasks(tape, root, request, new TaskWriter(tape, out, buffers), this.#fusesDelayed);
    const annotated = annotations.size > 0 && tasks.keys.length > 0;
    return {
      graph: {
        ...tasks,
        annotationSets: annotated ? [annotations] : [],
        ...(annotations.size > 0 ? { annotations } : {}),
        annotationOf: annotations.size > 0 ? new Int32Array(tasks.keys.length) : undefined,
        code,
        spanMetadata,
      },
    };
  }
}

/** The pickle in an expression that went through the `pickle` family, whole and not compressed. */
function pickleOf(expr: Serialized): Buffer {
  const header = decodeSubHeader(expr.header);
  const odd =
    header.get("serializer") !== "pickle" ||
    header.has("is-collection") ||
    header.has("split-num-sub-frames") ||
    header.has("type-serialized") ||
    [header.get("compression") ?? []].flat().some((compression) => compression !== null && compression !== false);
  const [pickle] = expr.frames;
  if (odd || pickle === undefined) throw new NotKnown("an expression of an unknown form");
  return Buffer.from(pickle.buffer, pickle.byteOffset, pickle.byteLength);
}

/** `Expr._reconstruct(class, *operands, token, cache)` */
function* expressionTasks(
  tape: Tape,
  root: number,
  request: OpenGraphRequest,
  writer: TaskWriter,
  fusesDelayed: boolean,
): Generator<undefined, GraphTasks> {
  const K = NodeKind;
  if (tape.kind[root] !== K.reduce || !tape.isGlobal(tape.a[root] as number, "dask._expr", "Expr._reconstruct")) {
    throw new NotKnown("no expression");
  }
  const args = tape.b[root] as number;
  const n = tape.b[args] as number;
  if (tape.head[root] !== 0 || n < 3 || !isEmptyDict(tape, tape.item(args, n - 1))) {
    throw new NotKnown("an expression of an unknown form");
  }
  const type = tape.globalOf(tape.item(args, 0));
  if (type?.module === "dask._expr" && type.name === "LLGExpr" && n === 4) {
    return yield* lowLevelGraph(tape, [tape.item(args, 1)], request.keys, writer);
  }
  if (type?.module === "dask._expr" && ["HLGExpr", "_HLGExprGroup", "_HLGExprSequence"].includes(type.name)) {
    if (fusesDelayed) throw new NotKnown("delayed calls that are to be fused");
    const isOne = type.name !== "_HLGExprSequence";
    const expressions = isOne ? [root] : Array.from({ length: n - 3 }, (_, i) => tape.item(args, i + 1));
    return yield* layeredGraph(tape, expressions, request.keys, writer);
  }
  if (type?.module === "distributed.client" && type.name === "_MapExpr" && n === 10) {
    if (!isEmptyDict(tape, tape.item(args, 5))) throw new NotKnown("a map with annotations");
    return yield* mapGraph(
      tape,
      {
        func: tape.item(args, 1),
        iterables: tape.item(args, 2),
        kwargs: tape.item(args, 6),
        keys: tape.item(args, 7),
      },
      writer,
    );
  }
  throw new NotKnown(`an expression of an unknown class: ${type?.module}.${type?.name}`);
}

function isEmptyDict(tape: Tape, node: number): boolean {
  return tape.kind[node] === NodeKind.dict && tape.head[node] === 0;
}

const EMPTY_MAP: ReadonlyMap<Value, Value> = new Map();
const NO_CODE: readonly Value[] = [];

/** The small pickles beside the expression; most of them are the same every time. */
class PlainPickles {
  readonly #tape: Tape = new Tape();
  #metadataHeader: Uint8Array | undefined;
  #metadata: ReadonlyMap<Value, Value> = EMPTY_MAP;
  readonly #empty: Map<string, Uint8Array> = new Map();

  release(): void {
    this.#tape.release();
  }

  /** `annotations`: what applies to all tasks. */
  annotations(value: Value): ReadonlyMap<Value, Value> {
    if (this.#isKnownEmpty("annotations", value)) return EMPTY_MAP;
    const annotations = this.#mapOf(value);
    if (annotations.size === 0) this.#keepEmpty("annotations", value);
    return annotations;
  }

  metadata(value: Value): ReadonlyMap<Value, Value> {
    if (value instanceof Pickled && this.#metadataHeader !== undefined && equal(value.header, this.#metadataHeader)) {
      return this.#metadata;
    }
    const metadata = this.#mapOf(value);
    if (value instanceof Pickled && value.header.byteLength < 1024) {
      this.#metadataHeader = Uint8Array.prototype.slice.call(value.header);
      this.#metadata = metadata;
    }
    return metadata;
  }

  /** `code`: a tuple of `SourceCode`, a namedtuple of four. */
  code(value: Value): readonly Value[] {
    if (value === null || this.#isKnownEmpty("code", value)) return NO_CODE;
    const root = this.#open(value);
    const tape = this.#tape;
    if (tape.kind[root] !== NodeKind.tuple) throw new NotKnown("code that is no tuple");
    const code: Value[] = [];
    for (let i = 0; i < (tape.b[root] as number); i++) {
      const source = tape.item(root, i);
      const isSource =
        tape.kind[source] === NodeKind.newobj &&
        tape.head[source] === 0 &&
        tape.isGlobal(tape.a[source] as number, "distributed.client", "SourceCode");
      if (!isSource) throw new NotKnown("code of an unknown form");
      code.push(plainValue(tape, tape.b[source] as number));
    }
    if (code.length === 0) this.#keepEmpty("code", value);
    return code;
  }

  #mapOf(value: Value): ReadonlyMap<Value, Value> {
    if (value === null) return EMPTY_MAP;
    if (value instanceof Map) return value;
    const root = this.#open(value);
    const tape = this.#tape;
    if (tape.kind[root] !== NodeKind.dict) throw new NotKnown("a field that is no dict");
    for (const [from, count] of tape.operands(root, ChangeOp.setitem, ChangeOp.setitems)) {
      for (let i = from; i < from + count; i += 2) tape.text(tape.pool[i] as number);
    }
    return plainValue(tape, root) as ReadonlyMap<Value, Value>;
  }

  #open(value: Value): number {
    if (!(value instanceof Pickled) || value.frames.length > 0) throw new NotKnown("a field of an unknown form");
    const pickle = decodeSubHeader(value.header).get("pickled-obj");
    if (!(pickle instanceof Uint8Array) || pickle.byteLength > 2 ** 20) throw new NotKnown("a field of unknown form");
    const bytes = Buffer.from(pickle.buffer, pickle.byteOffset, pickle.byteLength);
    const root = new PickleReader(this.#tape, bytes, 0).step(bytes.length);
    if (root === 0) throw new NotKnown("a pickle that ends early");
    return root;
  }

  #isKnownEmpty(name: string, value: Value): boolean {
    const known = this.#empty.get(name);
    return known !== undefined && value instanceof Pickled && equal(value.header, known);
  }
  #keepEmpty(name: string, value: Value): void {
    if (value instanceof Pickled) this.#empty.set(name, Uint8Array.prototype.slice.call(value.header));
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}
