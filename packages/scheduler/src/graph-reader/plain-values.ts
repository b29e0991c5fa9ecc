/** Nodes of a tape as values of messages: what msgpack could have carried. */
import { Float, type Key, keyId, type Value } from "@dask-ts/protocol";
import { Budget } from "./budget.ts";
import { NotKnown } from "./not-known.ts";
import { ChangeOp, NodeKind, type Tape } from "./tape.ts";

const MAX_DEPTH = 64;
const MAX_PARTS = 100_000;
const MAX_KEY_PARTS = 1_000;
const MIN_INT64 = -(2n ** 63n);
const MAX_UINT64 = 2n ** 64n - 1n;

/**
 * The value of a node made of plain data only.
 *
 * @throws {NotKnown} where it is anything else.
 */
export function plainValue(tape: Tape, node: number): Value {
  return valueOf(tape, node, 0, new Budget(MAX_PARTS));
}

function valueOf(tape: Tape, node: number, depth: number, budget: Budget): Value {
  if (depth > MAX_DEPTH) throw new NotKnown("data that nests too deep");
  budget.take();
  const K = NodeKind;
  switch (tape.kind[node]) {
    case K.none:
      return null;
    case K.true:
      return true;
    case K.false:
      return false;
    case K.int:
      return integer(tape, node);
    case K.float: {
      const value = tape.bytes.readDoubleBE((tape.a[node] as number) + 1);
      return Number.isInteger(value) ? new Float(value) : value;
    }
    case K.str:
      return tape.text(node);
    case K.bytes:
      return new Uint8Array(tape.bytes.subarray(tape.payload(node), tape.b[node]));
    case K.tuple: {
      const items: Value[] = [];
      for (let i = 0; i < (tape.b[node] as number); i++)
        items.push(valueOf(tape, tape.item(node, i), depth + 1, budget));
      return items;
    }
    case K.list: {
      const items: Value[] = [];
      for (const [from, count] of tape.operands(node, ChangeOp.append, ChangeOp.appends)) {
        for (let i = from; i < from + count; i++) items.push(valueOf(tape, tape.pool[i] as number, depth + 1, budget));
      }
      return items;
    }
    case K.set: {
      const items = new Set<Value>();
      for (const [from, count] of tape.operands(node, ChangeOp.additems, ChangeOp.additems)) {
        for (let i = from; i < from + count; i++) items.add(valueOf(tape, tape.pool[i] as number, depth + 1, budget));
      }
      return items;
    }
    case K.dict: {
      const map = new Map<Value, Value>();
      for (const [from, count] of tape.operands(node, ChangeOp.setitem, ChangeOp.setitems)) {
        for (let i = from; i < from + count; i += 2) {
          const key = valueOf(tape, tape.pool[i] as number, depth + 1, budget);
          map.set(key, valueOf(tape, tape.pool[i + 1] as number, depth + 1, budget));
        }
      }
      return map;
    }
    default:
      throw new NotKnown("an object where plain data is expected");
  }
}

/** A task's key. @throws {NotKnown} where it is none that a message could carry. */
export function keyOf(tape: Tape, node: number): Key {
  if (tape.kind[node] === NodeKind.str) return tape.text(node);
  checkKey(tape, node, 0, new Budget(MAX_KEY_PARTS));
  const key = plainValue(tape, node) as Key;
  // for a NaN, which is not equal to itself
  if (keyId(key).includes("NaN") && hasNan(key)) throw new NotKnown("a key with NaN");
  return key;
}

function checkKey(tape: Tape, node: number, depth: number, budget: Budget): void {
  budget.take();
  const kind = tape.kind[node] as number;
  if (kind < NodeKind.bytearray) return;
  if (kind !== NodeKind.tuple || depth > MAX_DEPTH) throw new NotKnown("a key of an unknown type");
  for (let i = 0; i < (tape.b[node] as number); i++) checkKey(tape, tape.item(node, i), depth + 1, budget);
}

function hasNan(key: Key): boolean {
  return Array.isArray(key) ? key.some((part: Key) => hasNan(part)) : Number.isNaN(key);
}

/** The value of an int node where it fits a JavaScript number without loss. */
export function smallInteger(tape: Tape, node: number): number {
  if (tape.kind[node] !== NodeKind.int) throw new NotKnown("an int is expected");
  const value = integer(tape, node);
  if (typeof value !== "number") throw new NotKnown("a very large int");
  return value;
}

function integer(tape: Tape, node: number): number | bigint {
  const { bytes } = tape;
  const at = tape.a[node] as number;
  switch (bytes[at]) {
    case 0x4b: // BININT1
      return bytes[at + 1] as number;
    case 0x4d: // BININT2
      return bytes.readUInt16LE(at + 1);
    case 0x4a: // BININT
      return bytes.readInt32LE(at + 1);
    default: {
      // LONG1: two's complement, little endian, of any length
      const n = bytes[at + 1] as number;
      if (n > 9) throw new NotKnown("an int of more than 64 bits");
      let value = 0n;
      for (let i = n - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + 2 + i] as number);
      if (n > 0) value = BigInt.asIntN(8 * n, value);
      if (value < MIN_INT64 || value > MAX_UINT64) throw new NotKnown("an int of more than 64 bits");
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
  }
}
