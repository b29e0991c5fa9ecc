/**
 * A pickle as data: one node per object that the pickle would make, in typed arrays, since a graph has millions of them.
 * Nothing here knows what a global stands for.
 */
import { NotKnown } from "./not-known.ts";

/** What a node is. Those below `global` are atoms: the opcode and its argument, `bytes[a, b)`. */
export const NodeKind = {
  none: 1,
  true: 2,
  false: 3,
  int: 4,
  float: 5,
  str: 6,
  bytes: 7,
  bytearray: 8,
  /** a, b: the nodes of module and name; tail: its number in `Tape.globals`. */
  global: 9,
  /** a: place of the items in `pool`, b: how many. */
  tuple: 10,
  /** Items come as changes. */
  list: 11,
  dict: 12,
  set: 13,
  /** As tuple. */
  frozenset: 14,
  /** a: what is called, b: the arguments. */
  reduce: 15,
  newobj: 16,
  /** a: the class, b: a tuple node (args, kwargs). */
  newobjEx: 17,
  /** a: number of the out-of-band buffer. */
  buffer: 18,
  /** a: the buffer's node. */
  readonlyBuffer: 19,
} as const;

/** What happens to an object after it was made: the opcodes that do it. */
export const ChangeOp = {
  append: 0x61,
  appends: 0x65,
  setitem: 0x73,
  setitems: 0x75,
  additems: 0x90,
  build: 0x62,
  /** A call for its effect on the object, its result dropped (the sixth item of a reduce value). */
  setter: 0x30,
} as const;

/** Nodes that every tape has. */
export const NONE = 1;
export const TRUE = 2;
export const FALSE = 3;
export const EMPTY_TUPLE = 4;
const FIRST_OWN = 5;

/** More than this, and the graph host takes it: some 400 MB here. */
const MAX_NODES = 16_000_000;
/** Arrays up to this length are kept for the next pickle. */
const KEEP = 65_536;

const NO_BYTES: Buffer = Buffer.alloc(0);

export interface GlobalName {
  readonly module: string;
  readonly name: string;
  /** True once something in the pickle calls it. */
  called: boolean;
}

export class Tape {
  bytes: Buffer = NO_BYTES;
  count: number = FIRST_OWN;
  kind: Uint8Array = new Uint8Array(256);
  a: Uint32Array = new Uint32Array(256);
  b: Uint32Array = new Uint32Array(256);
  /** First and last change of a node, 0 for none. For atoms and tuples `head` is free for the user of the tape. */
  head: Uint32Array = new Uint32Array(256);
  tail: Uint32Array = new Uint32Array(256);
  /** For nodes that the pickle refers to again, a number from 1 on. */
  shared: Uint32Array = new Uint32Array(256);
  sharedCount = 0;
  /** Items of tuples, and operands of changes. */
  pool: Uint32Array = new Uint32Array(256);
  poolCount = 0;
  changeOp: Uint8Array = new Uint8Array(64);
  changeAt: Uint32Array = new Uint32Array(64);
  changeCount: Uint32Array = new Uint32Array(64);
  changeNext: Uint32Array = new Uint32Array(64);
  changes = 1;
  /** Memory for whoever reads the pickle. */
  stack: Uint32Array = new Uint32Array(256);
  marks: Uint32Array = new Uint32Array(256);
  memo: Uint32Array = new Uint32Array(256);
  /** And for whoever writes parts of it, by the number of a shared node: in which pickle it is, and as what. */
  pickleOf: Float64Array = new Float64Array(256);
  memoOf: Uint32Array = new Uint32Array(256);
  /** Pickles written so far; never goes back. */
  pickles = 0;
  readonly globals: GlobalName[] = [];
  /** True where something is called that has no name: a class or function that the pickle itself makes. */
  hasOddCalls = false;

  /** Lets go of the pickle, and of what a large one took. */
  release(): void {
    if (this.kind.length > KEEP) {
      this.kind = new Uint8Array(256);
      for (const name of ["a", "b", "head", "tail", "shared"] as const) this[name] = new Uint32Array(256);
    }
    if (this.pool.length > KEEP) this.pool = new Uint32Array(256);
    if (this.changeOp.length > KEEP) {
      this.changeOp = new Uint8Array(64);
      for (const name of ["changeAt", "changeCount", "changeNext"] as const) this[name] = new Uint32Array(64);
    }
    for (const name of ["stack", "marks", "memo", "memoOf"] as const) {
      if (this[name].length > KEEP) this[name] = new Uint32Array(256);
    }
    if (this.pickleOf.length > KEEP) this.pickleOf = new Float64Array(256);
    this.bytes = NO_BYTES;
    this.globals.length = 0;
  }

  /** Takes another pickle. */
  reset(bytes: Buffer): void {
    this.bytes = bytes;
    this.count = FIRST_OWN;
    this.sharedCount = 0;
    this.poolCount = 0;
    this.changes = 1;
    this.globals.length = 0;
    this.hasOddCalls = false;
    this.kind.set([0, NodeKind.none, NodeKind.true, NodeKind.false, NodeKind.tuple]);
    for (let i = 0; i < FIRST_OWN; i++) {
      this.a[i] = this.b[i] = this.head[i] = this.tail[i] = this.shared[i] = 0;
    }
  }

  /**
   * Makes room for so many more nodes, pool entries and changes.
   *
   * @throws {NotKnown} over the limit.
   */
  reserve(nodes: number, pool: number): void {
    const n = this.count + nodes;
    if (n > this.kind.length) {
      if (this.count > MAX_NODES) throw new NotKnown("too many objects");
      const length = Math.max(n, this.kind.length * 2);
      this.kind = grown(this.kind, new Uint8Array(length));
      for (const name of ["a", "b", "head", "tail", "shared"] as const) {
        this[name] = grown(this[name], new Uint32Array(length));
      }
    }
    if (this.poolCount + pool > this.pool.length) {
      this.pool = grown(this.pool, new Uint32Array(Math.max(this.poolCount + pool, this.pool.length * 2)));
    }
    if (this.changes + nodes > this.changeOp.length) {
      const length = Math.max(this.changes + nodes, this.changeOp.length * 2);
      this.changeOp = grown(this.changeOp, new Uint8Array(length));
      for (const name of ["changeAt", "changeCount", "changeNext"] as const) {
        this[name] = grown(this[name], new Uint32Array(length));
      }
    }
  }

  globalOf(node: number): GlobalName | undefined {
    return this.kind[node] === NodeKind.global ? this.globals[this.tail[node] as number] : undefined;
  }

  isGlobal(node: number, module: string, name: string): boolean {
    const global = this.globalOf(node);
    return global !== undefined && global.name === name && global.module === module;
  }

  /** The name of a global of the given module, where the node is one. */
  nameIn(node: number, module: string): string | undefined {
    const global = this.globalOf(node);
    return global !== undefined && global.module === module ? global.name : undefined;
  }

  /** The n-th item of a tuple node. */
  item(tuple: number, n: number): number {
    return this.pool[(this.a[tuple] as number) + n] as number;
  }

  /**
   * The text of a str node.
   *
   * @throws {NotKnown} where it is none, or not valid UTF-8 (Python lets lone surrogates through).
   */
  text(node: number): string {
    if (this.kind[node] !== NodeKind.str) throw new NotKnown("a text is expected");
    const from = this.payload(node);
    const to = this.b[node] as number;
    const text = this.bytes.toString("utf8", from, to);
    if (text.includes("\ufffd")) throw new NotKnown("a text that may not be UTF-8");
    return text;
  }

  /** Where the content of a str, bytes or bytearray node starts. */
  payload(node: number): number {
    const start = this.a[node] as number;
    switch (this.bytes[start]) {
      case 0x8c: // SHORT_BINUNICODE
      case 0x43: // SHORT_BINBYTES
        return start + 2;
      case 0x58: // BINUNICODE
      case 0x42: // BINBYTES
        return start + 5;
      default:
        return start + 9;
    }
  }

  /**
   * The items of a tuple, list, set or frozenset.
   *
   * @throws {NotKnown} where it is changed otherwise than by adding items.
   */
  items(node: number): Uint32Array {
    const kind = this.kind[node];
    const first = this.head[node] as number;
    if (kind === NodeKind.tuple || kind === NodeKind.frozenset) {
      const from = this.a[node] as number;
      return this.pool.subarray(from, from + (this.b[node] as number));
    }
    const [one, many]: readonly [number, number] =
      kind === NodeKind.list ? [ChangeOp.append, ChangeOp.appends] : [ChangeOp.additems, ChangeOp.additems];
    if (kind !== NodeKind.list && kind !== NodeKind.set) throw new NotKnown("no container of items");
    let n = 0;
    for (let change = first; change !== 0; change = this.changeNext[change] as number) {
      const op = this.changeOp[change];
      if (op !== one && op !== many) throw new NotKnown("a container that is changed in an odd way");
      n += this.changeCount[change] as number;
    }
    const items = new Uint32Array(n);
    n = 0;
    for (let change = first; change !== 0; change = this.changeNext[change] as number) {
      const from = this.changeAt[change] as number;
      const count = this.changeCount[change] as number;
      items.set(this.pool.subarray(from, from + count), n);
      n += count;
    }
    return items;
  }

  /** All operands of the changes of a node, as places in the pool: [place, count], in order, of the given opcodes only. */
  *operands(node: number, one: number, many: number): Generator<readonly [number, number]> {
    for (let change = this.head[node] as number; change !== 0; change = this.changeNext[change] as number) {
      const op = this.changeOp[change];
      if (op !== one && op !== many) throw new NotKnown("a container that is changed in an odd way");
      yield [this.changeAt[change] as number, this.changeCount[change] as number];
    }
  }
}

function grown<T extends Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
