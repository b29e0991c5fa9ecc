/**
 * Pickles written by hand (protocol 4): plain values, and calls of importable names. Every supported Python opens
 * them with `pickle.loads`. There is no reader: nothing in a Node process evaluates a pickle.
 */
import { Float, Pickled, PyEnum, Serialized, type Value } from "../msgpack/value.ts";

/** An importable name: `new PyGlobal("builtins", "ValueError")`. */
export class PyGlobal {
  readonly module: string;
  readonly name: string;
  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** `callable(*args, **kwargs)` */
export class PyCall {
  readonly callable: PyGlobal;
  readonly args: readonly Picklable[];
  readonly kwargs: ReadonlyMap<string, Picklable>;
  constructor(callable: PyGlobal, args: readonly Picklable[], kwargs: ReadonlyMap<string, Picklable> = new Map()) {
    this.callable = callable;
    this.args = args;
    this.kwargs = kwargs;
  }
}

/** A Python list; plain arrays are tuples, as on the wire. */
export class PyList {
  readonly items: readonly Picklable[];
  constructor(items: readonly Picklable[]) {
    this.items = items;
  }
}

/** What can be pickled here: message values without sub-messages, and Python calls of them. */
export type Picklable =
  | Value
  | PyGlobal
  | PyCall
  | PyList
  | readonly Picklable[]
  | ReadonlyMap<Picklable, Picklable>
  | ReadonlySet<Picklable>;

/**
 * `pickle.dumps(value)`.
 *
 * @throws {TypeError} for values that have no pickle here (sub-messages, class instances, strings with lone surrogates).
 */
export function pickle(value: Picklable): Uint8Array {
  const writer = new PickleWriter();
  writer.write(value);
  return writer.finish();
}

class PickleWriter {
  readonly #parts: Uint8Array[] = [Buffer.from([0x80, 4])];

  finish(): Uint8Array {
    this.#op(".");
    return Buffer.concat(this.#parts);
  }

  write(value: Picklable | undefined): void {
    if (value === null || value === undefined) this.#op("N");
    else if (typeof value === "boolean") this.#op(value ? "\x88" : "\x89");
    else if (typeof value === "string") this.#str(value);
    else if (typeof value === "bigint") this.#int(value);
    else if (typeof value === "number") {
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) this.#int(value);
      else this.#float(value);
    } else this.#object(value);
  }

  #object(value: Exclude<Picklable, null | boolean | number | bigint | string>): void {
    if (Array.isArray(value)) this.#tuple(value);
    else if (value instanceof Float) this.#float(value.value);
    else if (value instanceof Uint8Array) this.#bytes(value);
    else if (value instanceof Map) this.#dict(value as ReadonlyMap<Picklable, Picklable>);
    else if (value instanceof Set) {
      this.#op("\x8f(");
      for (const item of value as ReadonlySet<Picklable>) this.write(item);
      this.#op("\x90");
    } else if (value instanceof PyList) {
      this.#op("](");
      for (const item of value.items) this.write(item);
      this.#op("e");
    } else if (value instanceof PyGlobal) this.#global(value);
    else if (value instanceof PyCall) this.#call(value);
    else if (value instanceof PyEnum) this.#enum(value);
    else if (!(value instanceof Serialized || value instanceof Pickled) && isPlain(value)) {
      this.#dict(Object.entries(value).filter(([, item]) => item !== undefined));
    } else throw new TypeError(`pickle: cannot write a ${value.constructor.name}`);
  }

  #op(opcodes: string): void {
    this.#parts.push(Buffer.from(opcodes, "latin1"));
  }

  #str(text: string): void {
    if (!text.isWellFormed()) throw new TypeError("pickle: a string with lone surrogates has no UTF-8 form");
    const utf8 = Buffer.from(text, "utf8");
    this.#sized(0x8c, 0x58, utf8);
  }

  #bytes(bytes: Uint8Array): void {
    this.#sized(0x43, 0x42, bytes);
  }

  /** `short` with one byte of length, `long` with four. */
  #sized(short: number, long: number, bytes: Uint8Array): void {
    if (bytes.byteLength < 0x100) this.#parts.push(Buffer.from([short, bytes.byteLength]), bytes);
    else {
      const head = Buffer.allocUnsafe(5);
      head[0] = long;
      head.writeUInt32LE(bytes.byteLength, 1);
      this.#parts.push(head, bytes);
    }
  }

  #int(value: number | bigint): void {
    if (value >= -0x80000000 && value <= 0x7fffffff) {
      const int32 = Buffer.allocUnsafe(5);
      int32[0] = 0x4a;
      int32.writeInt32LE(Number(value), 1);
      this.#parts.push(int32);
      return;
    }
    // LONG1: two's complement, little endian, as many bytes as it takes
    let rest = BigInt(value);
    const digits: number[] = [];
    for (;;) {
      const byte = Number(rest & 0xffn);
      digits.push(byte);
      rest >>= 8n;
      if ((rest === 0n && byte < 0x80) || (rest === -1n && byte >= 0x80)) break;
    }
    if (digits.length > 0xff) throw new TypeError("pickle: an integer beyond 2040 bits");
    this.#parts.push(Buffer.from([0x8a, digits.length, ...digits]));
  }

  #float(value: number): void {
    const out = Buffer.allocUnsafe(9);
    out[0] = 0x47;
    out.writeDoubleBE(value, 1);
    this.#parts.push(out);
  }

  #tuple(items: readonly Picklable[]): void {
    if (items.length === 0) {
      this.#op(")");
      return;
    }
    this.#op("(");
    for (const item of items) this.write(item);
    this.#op("t");
  }

  #dict(entries: Iterable<readonly [Picklable, Picklable | undefined]>): void {
    this.#op("}(");
    for (const [key, item] of entries) {
      this.write(key);
      this.write(item);
    }
    this.#op("u");
  }

  #global(global: PyGlobal): void {
    this.#str(global.module);
    this.#str(global.name);
    this.#op("\x93");
  }

  #call(call: PyCall): void {
    if (call.kwargs.size === 0) this.#global(call.callable);
    else {
      // REDUCE knows no keyword arguments: functools.partial(callable), whose state is (func, args, kwargs, dict)
      this.#global(new PyGlobal("functools", "partial"));
      this.#op("(");
      this.#global(call.callable);
      this.#op("tR(");
      this.#global(call.callable);
      this.#op(")");
      this.#dict(call.kwargs);
      this.#op("Ntb");
    }
    this.#tuple(call.args);
    this.#op("R");
  }

  /** `getattr(module.Class, name)`, as the object hook of distributed.protocol does it. */
  #enum(value: PyEnum): void {
    this.#global(new PyGlobal("builtins", "getattr"));
    this.#op("(");
    this.#global(new PyGlobal(value.module, value.className));
    this.#str(value.name);
    this.#op("tR");
  }
}

function isPlain(value: object): value is Record<string, Value | undefined> {
  return Object.getPrototypeOf(value) === Object.prototype;
}
