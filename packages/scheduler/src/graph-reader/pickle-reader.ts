/**
 * Reads a pickle of protocol 4 or 5 into a {@link Tape}. It only ever builds data: globals are names, calls are nodes.
 * Opcodes that today's picklers do not write end the reading.
 */
import { NotKnown } from "./not-known.ts";
import { ChangeOp, EMPTY_TUPLE, FALSE, NodeKind, NONE, type Tape, TRUE } from "./tape.ts";

/** Positions are 32-bit numbers. */
const MAX_BYTES = 0x7fff_ffff;

const K = NodeKind;
const CLOUDPICKLE = "cloudpickle.cloudpickle";

export class PickleReader {
  readonly #tape: Tape;
  readonly #bytes: Buffer;
  readonly #buffers: number;
  #at = 0;
  #height = 0;
  #markCount = 0;
  #memoCount = 0;
  #nextBuffer = 0;

  /** @param buffers number of out-of-band buffers that came with the pickle. */
  constructor(tape: Tape, bytes: Buffer, buffers: number) {
    if (bytes.length > MAX_BYTES) throw new NotKnown("a pickle of more than 2 GiB");
    tape.reset(bytes);
    this.#tape = tape;
    this.#bytes = bytes;
    this.#buffers = buffers;
  }

  /**
   * Reads up to so many opcodes.
   *
   * @returns the node that the pickle stands for, or 0 where there is more to read.
   * @throws {NotKnown}
   */
  step(opcodes: number): number {
    const end = this.#bytes.length;
    const limit = Math.min(opcodes, end - this.#at);
    if (limit <= 0) throw new NotKnown("a pickle that ends early");
    this.#reserve(limit);
    const bytes = this.#bytes;
    const tape = this.#tape;
    const { kind, a, b, head, tail, shared, pool, stack, marks, memo } = tape;
    let at = this.#at;
    let sp = this.#height;
    let mp = this.#markCount;
    let memoCount = this.#memoCount;
    let n = tape.count;
    let poolCount = tape.poolCount;
    /** Nothing below this height may be taken. */
    let floor = mp === 0 ? 0 : (marks[mp - 1] as number);

    for (let step = 0; step < limit; step++) {
      const op = bytes[at++] as number;
      let from: number;
      let to: number;
      switch (op) {
        case 0x94: // MEMOIZE
          if (sp <= floor) throw underflow();
          memo[memoCount++] = stack[sp - 1] as number;
          continue;
        case 0x68: // BINGET
          from = bytes[at++] as number;
          if (from >= memoCount) throw new NotKnown("an unknown memo number");
          from = memo[from] as number;
          if (shared[from] === 0) shared[from] = ++tape.sharedCount;
          stack[sp++] = from;
          continue;
        case 0x6a: // LONG_BINGET
          if (at + 4 > end) throw truncated();
          from = bytes.readUInt32LE(at);
          at += 4;
          if (from >= memoCount) throw new NotKnown("an unknown memo number");
          from = memo[from] as number;
          if (shared[from] === 0) shared[from] = ++tape.sharedCount;
          stack[sp++] = from;
          continue;
        case 0x28: // MARK
          marks[mp++] = floor = sp;
          continue;
        case 0x8c: // SHORT_BINUNICODE
          to = at + 1 + (bytes[at] as number);
          kind[n] = K.str;
          break;
        case 0x58: // BINUNICODE
          if (at + 4 > end) throw truncated();
          to = at + 4 + bytes.readUInt32LE(at);
          kind[n] = K.str;
          break;
        case 0x43: // SHORT_BINBYTES
          to = at + 1 + (bytes[at] as number);
          kind[n] = K.bytes;
          break;
        case 0x42: // BINBYTES
          if (at + 4 > end) throw truncated();
          to = at + 4 + bytes.readUInt32LE(at);
          kind[n] = K.bytes;
          break;
        case 0x8d: // BINUNICODE8
        case 0x8e: // BINBYTES8
        case 0x96: // BYTEARRAY8
          if (at + 8 > end || bytes.readUInt32LE(at + 4) !== 0) throw truncated();
          to = at + 8 + bytes.readUInt32LE(at);
          kind[n] = op === 0x8d ? K.str : op === 0x8e ? K.bytes : K.bytearray;
          break;
        case 0x4b: // BININT1
          to = at + 1;
          kind[n] = K.int;
          break;
        case 0x4d: // BININT2
          to = at + 2;
          kind[n] = K.int;
          break;
        case 0x4a: // BININT
          to = at + 4;
          kind[n] = K.int;
          break;
        case 0x8a: // LONG1
          to = at + 1 + (bytes[at] as number);
          kind[n] = K.int;
          break;
        case 0x47: // BINFLOAT
          to = at + 8;
          kind[n] = K.float;
          break;
        case 0x4e: // NONE
          stack[sp++] = NONE;
          continue;
        case 0x88: // NEWTRUE
          stack[sp++] = TRUE;
          continue;
        case 0x89: // NEWFALSE
          stack[sp++] = FALSE;
          continue;
        case 0x29: // EMPTY_TUPLE
          stack[sp++] = EMPTY_TUPLE;
          continue;
        case 0x85: // TUPLE1
        case 0x86: // TUPLE2
        case 0x87: // TUPLE3
          from = sp - (op - 0x84);
          if (from < floor) throw underflow();
          kind[n] = K.tuple;
          a[n] = poolCount;
          b[n] = op - 0x84;
          head[n] = tail[n] = shared[n] = 0;
          for (let i = from; i < sp; i++) pool[poolCount++] = stack[i] as number;
          stack[from] = n++;
          sp = from + 1;
          continue;
        case 0x74: // TUPLE
        case 0x91: // FROZENSET
          if (mp === 0) throw underflow();
          from = marks[--mp] as number;
          floor = mp === 0 ? 0 : (marks[mp - 1] as number);
          kind[n] = op === 0x74 ? K.tuple : K.frozenset;
          a[n] = poolCount;
          b[n] = sp - from;
          head[n] = tail[n] = shared[n] = 0;
          for (let i = from; i < sp; i++) pool[poolCount++] = stack[i] as number;
          stack[from] = n++;
          sp = from + 1;
          continue;
        case 0x5d: // EMPTY_LIST
        case 0x7d: // EMPTY_DICT
        case 0x8f: // EMPTY_SET
          kind[n] = op === 0x5d ? K.list : op === 0x7d ? K.dict : K.set;
          a[n] = b[n] = head[n] = tail[n] = shared[n] = 0;
          stack[sp++] = n++;
          continue;
        case 0x61: // APPEND
        case 0x62: // BUILD
        case 0x73: // SETITEM
          from = sp - (op === 0x73 ? 2 : 1);
          if (from <= floor) throw underflow();
          this.#change(stack[from - 1] as number, op, poolCount, sp - from);
          for (let i = from; i < sp; i++) pool[poolCount++] = stack[i] as number;
          sp = from;
          continue;
        case 0x65: // APPENDS
        case 0x75: // SETITEMS
        case 0x90: // ADDITEMS
          if (mp === 0) throw underflow();
          from = marks[--mp] as number;
          floor = mp === 0 ? 0 : (marks[mp - 1] as number);
          if (from <= floor || (op === 0x75 && (sp - from) % 2 !== 0)) throw underflow();
          this.#change(stack[from - 1] as number, op, poolCount, sp - from);
          for (let i = from; i < sp; i++) pool[poolCount++] = stack[i] as number;
          sp = from;
          continue;
        case 0x93: // STACK_GLOBAL
          if (sp - 2 < floor) throw underflow();
          kind[n] = K.global;
          a[n] = stack[sp - 2] as number;
          b[n] = stack[sp - 1] as number;
          head[n] = shared[n] = 0;
          tail[n] =
            tape.globals.push({
              module: tape.text(stack[sp - 2] as number),
              name: tape.text(stack[sp - 1] as number),
              called: false,
            }) - 1;
          sp -= 2;
          stack[sp++] = n++;
          continue;
        case 0x52: // REDUCE
        case 0x81: // NEWOBJ
          if (sp - 2 < floor) throw underflow();
          if (kind[stack[sp - 1] as number] !== K.tuple) throw new NotKnown("a call without a tuple of arguments");
          kind[n] = op === 0x52 ? K.reduce : K.newobj;
          a[n] = stack[sp - 2] as number;
          b[n] = stack[sp - 1] as number;
          this.#called(a[n] as number, b[n] as number);
          head[n] = tail[n] = shared[n] = 0;
          sp -= 2;
          stack[sp++] = n++;
          continue;
        case 0x92: // NEWOBJ_EX
          if (sp - 3 < floor) throw underflow();
          // the limit leaves room: this opcode takes three and makes two
          kind[n] = K.tuple;
          a[n] = poolCount;
          b[n] = 2;
          head[n] = tail[n] = shared[n] = 0;
          pool[poolCount++] = stack[sp - 2] as number;
          pool[poolCount++] = stack[sp - 1] as number;
          n++;
          kind[n] = K.newobjEx;
          a[n] = stack[sp - 3] as number;
          b[n] = n - 1;
          this.#called(a[n] as number, EMPTY_TUPLE);
          head[n] = tail[n] = shared[n] = 0;
          sp -= 3;
          stack[sp++] = n++;
          continue;
        case 0x97: // NEXT_BUFFER
          if (this.#nextBuffer >= this.#buffers) throw new NotKnown("more buffers than came");
          kind[n] = K.buffer;
          a[n] = this.#nextBuffer++;
          b[n] = head[n] = tail[n] = shared[n] = 0;
          stack[sp++] = n++;
          continue;
        case 0x98: // READONLY_BUFFER
          if (sp <= floor || kind[stack[sp - 1] as number] !== K.buffer) throw underflow();
          kind[n] = K.readonlyBuffer;
          a[n] = stack[sp - 1] as number;
          b[n] = head[n] = tail[n] = shared[n] = 0;
          stack[sp - 1] = n++;
          continue;
        case 0x30: // POP
          if (sp === floor && mp > 0) {
            mp--;
            floor = mp === 0 ? 0 : (marks[mp - 1] as number);
            continue;
          }
          if (sp <= floor) throw underflow();
          this.#drop(stack[--sp] as number, sp > floor ? (stack[sp - 1] as number) : 0, poolCount);
          if ((head[0] as number) !== 0) {
            // what was dropped is a change of what lies below it now
            pool[poolCount++] = head[0] as number;
            head[0] = 0;
          }
          continue;
        case 0x31: // POP_MARK
          if (mp === 0) throw underflow();
          sp = marks[--mp] as number;
          floor = mp === 0 ? 0 : (marks[mp - 1] as number);
          continue;
        case 0x95: // FRAME
          if (at + 8 > end || bytes.readUInt32LE(at + 4) !== 0) throw truncated();
          if (at + 8 + bytes.readUInt32LE(at) > end) throw truncated();
          at += 8;
          continue;
        case 0x80: // PROTO
          to = bytes[at++] as number;
          if (at !== 2 || (to !== 4 && to !== 5)) throw new NotKnown("a pickle of another protocol");
          continue;
        case 0x2e: // STOP
          if (sp !== 1 || mp !== 0) throw underflow();
          tape.count = n;
          tape.poolCount = poolCount;
          this.#at = at;
          return stack[0] as number;
        default:
          throw new NotKnown(at > end ? "a pickle that ends early" : `opcode 0x${op.toString(16)}`);
      }
      // atoms
      if (to > end) throw truncated();
      a[n] = at - 1;
      b[n] = at = to;
      head[n] = tail[n] = shared[n] = 0;
      stack[sp++] = n++;
    }
    this.#at = at;
    this.#height = sp;
    this.#markCount = mp;
    this.#memoCount = memoCount;
    tape.count = n;
    tape.poolCount = poolCount;
    return 0;
  }

  /** Room for all that so many opcodes can make. */
  #reserve(opcodes: number): void {
    // an opcode makes at most two nodes, and moves at most what lies on the stack
    const tape = this.#tape;
    tape.reserve(2 * opcodes, this.#height + 2 * opcodes);
    tape.stack = withRoom(tape.stack, this.#height + opcodes);
    tape.marks = withRoom(tape.marks, this.#markCount + opcodes);
    tape.memo = withRoom(tape.memo, this.#memoCount + opcodes);
  }

  #change(node: number, op: number, place: number, count: number): void {
    const tape = this.#tape;
    const kind = tape.kind[node] as number;
    const isObject = kind >= K.reduce && kind <= K.newobjEx;
    const fits =
      isObject ||
      (kind === K.list && (op === ChangeOp.append || op === ChangeOp.appends)) ||
      (kind === K.dict && (op === ChangeOp.setitem || op === ChangeOp.setitems)) ||
      (kind === K.set && op === ChangeOp.additems);
    if (!fits) throw new NotKnown("a change that does not fit its object");
    const change = tape.changes++;
    tape.changeOp[change] = op;
    tape.changeAt[change] = place;
    tape.changeCount[change] = count;
    tape.changeNext[change] = 0;
    const last = tape.tail[node] as number;
    if (last === 0) tape.head[node] = change;
    else tape.changeNext[last] = change;
    tape.tail[node] = change;
  }

  /** Notes what is called. */
  #called(callee: number, args: number): void {
    const tape = this.#tape;
    const global = tape.globalOf(callee);
    if (global === undefined) {
      // code objects and the like: cloudpickle makes their types by a call
      const isType =
        tape.kind[callee] === K.reduce && tape.isGlobal(tape.a[callee] as number, CLOUDPICKLE, "_builtin_type");
      if (!isType) tape.hasOddCalls = true;
      return;
    }
    global.called = true;
    if (global.name === "subimport" && global.module === CLOUDPICKLE && tape.b[args] === 1) {
      tape.globals.push({ module: tape.text(tape.item(args, 0)), name: "", called: false });
    }
  }

  /**
   * POP. Either it ends a call that sets the state of the object below (then `head[0]` tells the caller), or it drops
   * what a tuple that contains itself has made twice.
   */
  #drop(node: number, below: number, place: number): void {
    const tape = this.#tape;
    if (tape.kind[node] !== K.reduce) return;
    const args = tape.b[node] as number;
    if (below !== 0 && tape.b[args] === 2 && tape.item(args, 0) === below) {
      this.#change(below, ChangeOp.setter, place, 1);
      tape.head[0] = node;
      return;
    }
    if (tape.shared[node] === 0) throw new NotKnown("a call whose result is dropped");
  }
}

function withRoom(array: Uint32Array, length: number): Uint32Array {
  if (array.length >= length) return array;
  const larger = new Uint32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}

function underflow(): NotKnown {
  return new NotKnown("a pickle whose opcodes do not fit together");
}

function truncated(): NotKnown {
  return new NotKnown("a pickle that ends early");
}
