/**
 * Graphs of plain dicts and tuples, as `Client.get` takes them: `convert_legacy_graph` (dask/_task_spec.py). What only
 * Python can tell apart ends the reading.
 */
import { TaskFlag } from "../core/graph.ts";
import { Budget } from "./budget.ts";
import type { KeyNumbers } from "./graph-columns.ts";
import { type NodeFacts, nodeFacts, withoutRepeats } from "./graph-nodes.ts";
import { NotKnown } from "./not-known.ts";
import { futureKey, objectClass, TASK_SPEC } from "./objects.ts";
import { keyOf } from "./plain-values.ts";
import { ChangeOp, NodeKind, type Tape } from "./tape.ts";
import type { TaskWriter } from "./task-writer.ts";

const MAX_DEPTH = 200;
/** Places in one task. */
const MAX_PLACES = 50_000;
const MAX_KEY_PARTS = 1_000;
const K = NodeKind;

/** What `convert_legacy_task` makes of a value. */
type Converted =
  /** Stays as it is. */
  | "data"
  /** A node of `dask._task_spec`, as it lies there. */
  | "node"
  /** A tuple to be called. */
  | "task"
  /** The key of another task. */
  | "key"
  | "future"
  /** A list, tuple or set with one of the above in it. */
  | "container"
  /** Being looked at. */
  | "unfinished";

export class LegacyTasks {
  readonly #tape: Tape;
  readonly #keys: KeyNumbers;
  /** Keys with smaller numbers are those of the graph (`all_keys`). */
  readonly #own: number;
  readonly #containers: Map<number, Converted> = new Map();
  #budget: Budget = new Budget(0);

  constructor(tape: Tape, keys: KeyNumbers, own: number) {
    this.#tape = tape;
    this.#keys = keys;
    this.#own = own;
  }

  /** @throws {NotKnown} */
  facts(value: number): NodeFacts {
    this.#budget = new Budget(MAX_PLACES);
    const converted = this.#convert(value, 0);
    switch (converted) {
      case "node":
        return nodeFacts(this.#tape, value, this.#keys);
      case "key":
      case "future": {
        const target = this.#keys.of(converted === "key" ? value : futureKey(this.#tape, value));
        return { dependencies: [target], flags: 0, func: 0, target };
      }
      case "data":
        return { dependencies: [], flags: TaskFlag.dataProducer, func: 0, target: -1 };
      case "task":
      case "container": {
        const found: number[] = [];
        this.#collect(value, converted, found);
        return { dependencies: withoutRepeats(found), flags: 0, func: 0, target: -1 };
      }
      default:
        throw new NotKnown("a legacy graph with a cycle");
    }
  }

  /** The value as argument of the class that stands for it. @param key the node of its key. */
  write(writer: TaskWriter, key: number, value: number): void {
    this.#budget = new Budget(MAX_PLACES);
    const converted = this.#convert(value, 0);
    if (converted === "data") {
      writer.callTaskSpec("DataNode");
      writer.node(key);
      writer.node(value);
      writer.endCall();
    } else this.#write(writer, key, value, converted);
  }

  #convert(node: number, depth: number): Converted {
    this.#budget.take();
    if (depth > MAX_DEPTH) throw new NotKnown("a legacy graph that nests too deep");
    const tape = this.#tape;
    const kind = tape.kind[node] as number;
    switch (kind) {
      case K.none:
      case K.bytes:
      case K.bytearray:
      case K.dict:
        return "data";
      case K.true:
      case K.false:
      case K.int:
      case K.float:
      case K.str:
        return this.#isKey(node) ? "key" : "data";
      case K.tuple:
      case K.list:
      case K.set:
      case K.frozenset: {
        let converted = this.#containers.get(node);
        if (converted === undefined) {
          // a list that holds itself comes here again
          this.#containers.set(node, "unfinished");
          converted = this.#convertContainer(node, kind, depth);
          this.#containers.set(node, converted);
        }
        if (converted === "unfinished") throw new NotKnown("a legacy graph with a cycle");
        return converted;
      }
    }
    switch (objectClass(tape, node, true)) {
      case "future":
        return "future";
      case "graph-node":
        nodeFacts(tape, node, this.#keys);
        return "node";
      default:
        return "data";
    }
  }

  #convertContainer(node: number, kind: number, depth: number): Converted {
    if (kind === K.tuple && this.#isTask(node)) {
      for (let i = 1; i < (this.#tape.b[node] as number); i++) this.#argument(this.#tape.item(node, i), depth + 1);
      return "task";
    }
    if (kind === K.tuple && this.#isKey(node)) return "key";
    let converted: Converted = "data";
    for (const item of this.#tape.items(node)) {
      if (this.#convert(item, depth + 1) !== "data") converted = "container";
    }
    return converted;
  }

  /** `type(task) is tuple and task and callable(task[0])` */
  #isTask(tuple: number): boolean {
    const tape = this.#tape;
    if (tape.b[tuple] === 0) return false;
    const first = tape.item(tuple, 0);
    const kind = tape.kind[first] as number;
    if (kind < K.global || (kind >= K.tuple && kind <= K.frozenset)) return false;
    return objectClass(tape, first, true) === "callable";
  }

  /** `task in all_keys`, for what may be one: False is 0, and 1.0 is 1. */
  #isKey(node: number): boolean {
    const tape = this.#tape;
    if (tape.kind[node] === K.tuple && (tape.b[node] === 0 || !isHashable(tape, node, 0, new Budget(MAX_KEY_PARTS))))
      return false;
    const number = this.#keys.find(keyOf(tape, node));
    return number !== undefined && number < this.#own;
  }

  /** Arguments that are dicts become `Dict` nodes; only nodes right in them count. */
  #argument(node: number, depth: number): void {
    const tape = this.#tape;
    if (tape.kind[node] !== K.dict) {
      this.#convert(node, depth);
      return;
    }
    for (const [from, count] of tape.operands(node, ChangeOp.setitem, ChangeOp.setitems)) {
      for (let i = from; i < from + count; i++) {
        const item = tape.pool[i] as number;
        if ((tape.kind[item] as number) >= K.reduce) {
          const found = objectClass(tape, item, false);
          if (found === "future" || found === "graph-node") throw new NotKnown("a legacy task with nodes in a dict");
        }
      }
    }
  }

  #collect(node: number, converted: Converted, found: number[]): void {
    const tape = this.#tape;
    switch (converted) {
      case "data":
        return;
      case "key":
        found.push(this.#keys.of(node));
        return;
      case "future":
        found.push(this.#keys.of(futureKey(tape, node)));
        return;
      case "node":
        found.push(...nodeFacts(tape, node, this.#keys).dependencies);
        return;
      case "task":
      case "container":
      case "unfinished":
    }
    let skip = converted === "task" ? 1 : 0;
    for (const item of tape.items(node)) {
      if (skip-- > 0) continue;
      if (converted === "task" && tape.kind[item] === K.dict) continue;
      this.#collect(item, this.#convert(item, 0), found);
    }
  }

  #write(writer: TaskWriter, key: number, node: number, converted: Converted): void {
    const tape = this.#tape;
    switch (converted) {
      case "data":
      case "node":
        writer.node(node);
        return;
      case "key":
      case "future": {
        const target = converted === "key" ? node : futureKey(tape, node);
        writer.callTaskSpec("Alias");
        writer.node(key === 0 ? target : key);
        writer.node(target);
        writer.endCall();
        return;
      }
      case "task":
        writer.callTaskSpec("Task");
        writeKey(writer, key);
        writer.node(tape.item(node, 0));
        for (let i = 1; i < (tape.b[node] as number); i++) this.#writeArgument(writer, tape.item(node, i));
        writer.endCall();
        return;
      case "container":
        this.#writeContainer(writer, key, node);
        return;
      case "unfinished":
        throw new NotKnown("a legacy graph with a cycle");
    }
  }

  #writeArgument(writer: TaskWriter, node: number): void {
    if (this.#tape.kind[node] === K.dict) {
      writer.callTaskSpec("Dict");
      writer.node(node);
      writer.endCall();
    } else this.#write(writer, 0, node, this.#convert(node, 0));
  }

  /** `Task(key, _identity_cast, *parsed_args, typ=type(task))` */
  #writeContainer(writer: TaskWriter, key: number, node: number): void {
    const kind = this.#tape.kind[node];
    const type = kind === K.list ? "list" : kind === K.tuple ? "tuple" : kind === K.set ? "set" : "frozenset";
    writer.partialTask(() => {
      writer.text("typ");
      writer.globalName("builtins", type);
    });
    writer.op(0x28);
    writeKey(writer, key);
    writer.globalName(TASK_SPEC, "_identity_cast");
    for (const item of this.#tape.items(node)) this.#write(writer, 0, item, this.#convert(item, 0));
    writer.endCall();
  }
}

function writeKey(writer: TaskWriter, key: number): void {
  if (key === 0) writer.op(0x4e);
  else writer.node(key);
}

/** Whether a tuple holds nothing but what keys are made of; others can be no key of the graph. */
function isHashable(tape: Tape, node: number, depth: number, budget: Budget): boolean {
  budget.take();
  const kind = tape.kind[node] as number;
  if (kind < K.bytearray) return true;
  if (kind !== K.tuple || depth > MAX_DEPTH) return false;
  for (let i = 0; i < (tape.b[node] as number); i++) {
    if (!isHashable(tape, tape.item(node, i), depth + 1, budget)) return false;
  }
  return true;
}
