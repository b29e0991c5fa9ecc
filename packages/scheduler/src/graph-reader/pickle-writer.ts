/**
 * Writes parts of a {@link Tape} as pickles of their own. What a part holds twice is written once and then referred to,
 * as Python's pickler does, so that identity and cycles stay as they are.
 */
import type { Pickled } from "@dask-ts/protocol";
import { NotKnown } from "./not-known.ts";
import type { RunSpecBytes } from "./run-spec-bytes.ts";
import { ChangeOp, NodeKind, type Tape } from "./tape.ts";

/** How deep objects may nest; Python's own pickler gives up at some 500. */
const MAX_DEPTH = 500;
/** Objects of one task: more would keep the event loop for too long. */
const MAX_TASK_NODES = 500_000;
/** Strings up to this length are written again rather than remembered. */
const SHORT = 16;
/** bytes from this size on leave the pickle, and are not copied. */
const LARGE_BYTES = 64 * 1024;
/** Out-of-band buffers below this size go into the pickle. */
const SMALL_BUFFER = 64 * 1024;
/** A part that many tasks share leaves their pickles from this size on. */
const LARGE_PRELUDE = 4 * 1024;

const LOADS = Buffer.from("\x8c\x07_pickle\x8c\x05loads\x93\x97\x85R", "latin1");
const BYTES_OF = Buffer.from("\x8c\x08builtins\x8c\x05bytes\x93\x97\x85R", "latin1");
const BYTEARRAY_OF = Buffer.from("\x8c\x08builtins\x8c\x09bytearray\x93\x97\x85R", "latin1");

const K = NodeKind;

/** What stands at the start of several pickles, written once. */
export interface Prelude {
  readonly bytes: Buffer;
  readonly frames: readonly Uint8Array[];
  /** Numbers of shared nodes, in the order of their memo numbers. */
  readonly remembered: readonly number[];
  /** True where the object itself is a frame, which the bytes load. */
  readonly apart: boolean;
}

export class PickleWriter {
  readonly #tape: Tape;
  readonly #out: RunSpecBytes;
  readonly #buffers: readonly Uint8Array[];
  /** By the number of a shared node: in which pickle it was last remembered, and as what. */
  readonly #pickleOf: Float64Array;
  readonly #memoOf: Uint32Array;
  #pickle = 0;
  #memoCount = 0;
  #remembered: number[] | undefined;
  #frames: Uint8Array[] = [];
  #preludeStart = 0;
  #noMemo = false;
  #depth = 0;
  #nodes = 0;

  /** @param buffers the out-of-band buffers of the pickle on the tape. */
  constructor(tape: Tape, out: RunSpecBytes, buffers: readonly Uint8Array[]) {
    this.#tape = tape;
    this.#out = out;
    this.#buffers = buffers;
    if (tape.pickleOf.length <= tape.sharedCount) {
      tape.pickleOf = new Float64Array(tape.sharedCount + 1);
      tape.memoOf = new Uint32Array(tape.sharedCount + 1);
    }
    this.#pickleOf = tape.pickleOf;
    this.#memoOf = tape.memoOf;
  }

  /** Starts the run_spec of a task. */
  begin(): void {
    this.#out.begin();
    this.#out.room(2);
    this.#byte(0x80);
    this.#byte(5);
    this.#forget();
  }

  end(): Pickled {
    this.op(0x2e);
    return this.#out.end(this.#frames);
  }

  #forget(): void {
    this.#pickle = ++this.#tape.pickles;
    this.#memoCount = 0;
    this.#depth = 0;
    this.#nodes = 0;
    if (this.#frames.length > 0) this.#frames = [];
  }

  /**
   * Writes something to put at the start of several pickles, right behind `begin`.
   *
   * @param whole the node, where it is just one object; a large one becomes a frame that all tasks share.
   */
  prelude(write: () => void, whole: number | undefined): Prelude {
    const out = this.#out;
    out.begin();
    this.#forget();
    const start = (this.#preludeStart = out.length);
    const remembered: number[] = [];
    this.#remembered = remembered;
    try {
      write();
    } finally {
      this.#remembered = undefined;
    }
    const size = out.length - start;
    const bytes = Buffer.from(out.bytes.subarray(out.at - size, out.at));
    if (whole === undefined || size < LARGE_PRELUDE || this.#frames.length > 0) {
      return { bytes, frames: [...this.#frames], remembered, apart: false };
    }
    const pickle = Buffer.concat([Buffer.from([0x80, 5]), bytes, Buffer.from(".")]);
    const number = this.#tape.shared[whole] as number;
    return number === 0
      ? { bytes: LOADS, frames: [pickle], remembered: [], apart: true }
      : { bytes: Buffer.concat([LOADS, Buffer.from([0x94])]), frames: [pickle], remembered: [number], apart: true };
  }

  /** In a prelude: the bytes of it so far. */
  get written(): number {
    return this.#out.length - this.#preludeStart;
  }

  putPrelude(prelude: Prelude): void {
    if (this.#memoCount > 0) throw new Error("a prelude comes first");
    this.raw(prelude.bytes, 0, prelude.bytes.length);
    for (const frame of prelude.frames) this.#frames.push(frame);
    const { remembered } = prelude;
    for (let i = 0; i < remembered.length; i++) {
      const number = remembered[i] as number;
      this.#pickleOf[number] = this.#pickle;
      this.#memoOf[number] = i;
    }
    this.#memoCount = remembered.length;
  }

  /** An opcode. */
  op(opcode: number): void {
    this.#out.room(1);
    this.#byte(opcode);
  }

  #byte(byte: number): void {
    this.#out.bytes[this.#out.at++] = byte;
  }

  /** Bytes as they are. */
  raw(source: Buffer, from: number, to: number): void {
    const out = this.#out;
    const n = to - from;
    out.room(n);
    if (n > 48) out.at += source.copy(out.bytes, out.at, from, to);
    else {
      const { bytes } = out;
      let at = out.at;
      for (let i = from; i < to; i++) bytes[at++] = source[i] as number;
      out.at = at;
    }
  }

  int(value: number): void {
    const out = this.#out;
    out.room(12);
    const { bytes } = out;
    if (value >= 0 && value < 0x100) {
      bytes[out.at++] = 0x4b;
      bytes[out.at++] = value;
    } else if (value >= 0 && value < 0x10000) {
      bytes[out.at++] = 0x4d;
      bytes[out.at++] = value & 0xff;
      bytes[out.at++] = value >>> 8;
    } else if (value === (value | 0)) {
      bytes[out.at] = 0x4a;
      out.at = bytes.writeInt32LE(value, out.at + 1);
    } else {
      bytes[out.at++] = 0x8a;
      bytes[out.at++] = 8;
      out.at = bytes.writeBigInt64LE(BigInt(value), out.at);
    }
  }

  /** Writes a node in full, without the memo: between the parts of a prelude its numbers are not those to come. */
  withoutMemo(node: number): void {
    this.#noMemo = true;
    try {
      this.node(node);
    } finally {
      this.#noMemo = false;
    }
  }

  /** @throws {NotKnown} where the object is too deep or too large. */
  node(node: number): void {
    const tape = this.#tape;
    const kind = tape.kind[node] as number;
    if (kind < K.global) {
      this.#atom(node, kind);
      return;
    }
    const number = this.#noMemo ? 0 : (tape.shared[node] as number);
    if (number !== 0 && this.#pickleOf[number] === this.#pickle) {
      this.#get(number);
      return;
    }
    if (++this.#depth > MAX_DEPTH) throw new NotKnown("objects that nest too deep");
    if (++this.#nodes > MAX_TASK_NODES) throw new NotKnown("a task of too many objects");
    switch (kind) {
      case K.global:
        this.#atom(tape.a[node] as number, K.str);
        this.#atom(tape.b[node] as number, K.str);
        this.op(0x93);
        if (number !== 0) this.#memoize(number);
        break;
      case K.tuple:
        this.#tuple(node, number);
        break;
      case K.frozenset:
        this.op(0x28);
        this.#items(node);
        this.op(0x91);
        if (number !== 0) this.#remember(number);
        break;
      case K.list:
      case K.dict:
      case K.set:
        this.op(kind === K.list ? 0x5d : kind === K.dict ? 0x7d : 0x8f);
        if (number !== 0) this.#memoize(number);
        if (tape.head[node] !== 0) this.#changes(node);
        break;
      case K.reduce:
      case K.newobj:
        this.node(tape.a[node] as number);
        this.node(tape.b[node] as number);
        this.op(kind === K.reduce ? 0x52 : 0x81);
        if (number === 0 || this.#remember(number)) this.#changes(node);
        break;
      case K.newobjEx:
        this.node(tape.a[node] as number);
        this.#items(tape.b[node] as number);
        this.op(0x92);
        if (number === 0 || this.#remember(number)) this.#changes(node);
        break;
      case K.buffer:
        this.#buffer(this.#buffers[tape.a[node] as number] as Uint8Array, false);
        if (number !== 0) this.#memoize(number);
        break;
      case K.readonlyBuffer:
        this.#buffer(this.#buffers[tape.a[tape.a[node] as number] as number] as Uint8Array, true);
        if (number !== 0) this.#memoize(number);
        break;
      default:
        throw new NotKnown("an unknown node");
    }
    this.#depth--;
  }

  #atom(node: number, kind: number): void {
    const tape = this.#tape;
    const from = tape.a[node] as number;
    const to = tape.b[node] as number;
    switch (kind) {
      case K.none:
        this.op(0x4e);
        return;
      case K.true:
        this.op(0x88);
        return;
      case K.false:
        this.op(0x89);
        return;
      case K.int:
      case K.float:
        this.raw(tape.bytes, from, to);
        return;
    }
    const number = !this.#noMemo && (to - from > SHORT || kind === K.bytearray) ? (tape.shared[node] as number) : 0;
    if (number !== 0 && this.#pickleOf[number] === this.#pickle) {
      this.#get(number);
      return;
    }
    if (to - from > LARGE_BYTES && kind !== K.str) {
      const payload = tape.payload(node);
      this.#frames.push(tape.bytes.subarray(payload, to));
      const call = kind === K.bytes ? BYTES_OF : BYTEARRAY_OF;
      this.raw(call, 0, call.length);
    } else this.raw(tape.bytes, from, to);
    if (number !== 0) this.#memoize(number);
  }

  #tuple(node: number, number: number): void {
    const n = this.#tape.b[node] as number;
    if (n === 0) this.op(0x29);
    else if (n <= 3) {
      this.#items(node);
      this.op(0x84 + n);
    } else {
      this.op(0x28);
      this.#items(node);
      this.op(0x74);
    }
    if (number !== 0) this.#remember(number);
  }

  #items(node: number): void {
    const { a, b, pool } = this.#tape;
    const from = a[node] as number;
    const to = from + (b[node] as number);
    for (let i = from; i < to; i++) this.node(pool[i] as number);
  }

  #changes(node: number): void {
    const { head, changeOp, changeAt, changeCount, changeNext, pool } = this.#tape;
    for (let change = head[node] as number; change !== 0; change = changeNext[change] as number) {
      const op = changeOp[change] as number;
      const from = changeAt[change] as number;
      const to = from + (changeCount[change] as number);
      if (op === ChangeOp.appends || op === ChangeOp.setitems || op === ChangeOp.additems) this.op(0x28);
      for (let i = from; i < to; i++) this.node(pool[i] as number);
      this.op(op);
    }
  }

  #buffer(buffer: Uint8Array, readonly: boolean): void {
    const n = buffer.byteLength;
    if (n >= SMALL_BUFFER) {
      this.#frames.push(buffer);
      this.op(0x97);
      if (readonly) this.op(0x98);
      return;
    }
    const out = this.#out;
    out.room(n + 9);
    const { bytes } = out;
    if (readonly) {
      bytes[out.at] = 0x42;
      out.at = bytes.writeUInt32LE(n, out.at + 1);
    } else {
      bytes[out.at] = 0x96;
      bytes.writeUInt32LE(n, out.at + 1);
      out.at = bytes.writeUInt32LE(0, out.at + 5);
    }
    bytes.set(buffer, out.at);
    out.at += n;
  }

  #get(number: number): void {
    const memo = this.#memoOf[number] as number;
    const out = this.#out;
    out.room(5);
    if (memo < 0x100) {
      out.bytes[out.at++] = 0x68;
      out.bytes[out.at++] = memo;
    } else {
      out.bytes[out.at] = 0x6a;
      out.at = out.bytes.writeUInt32LE(memo, out.at + 1);
    }
  }

  /** Of an object whose parts may hold itself: then it is there already, and this one goes. @returns false then. */
  #remember(number: number): boolean {
    if (this.#pickleOf[number] === this.#pickle) {
      this.op(0x30);
      this.#get(number);
      return false;
    }
    this.#memoize(number);
    return true;
  }

  #memoize(number: number): void {
    this.op(0x94);
    this.#pickleOf[number] = this.#pickle;
    this.#memoOf[number] = this.#memoCount++;
    this.#remembered?.push(number);
  }
}
