/** Values → msgpack (wire-protocol.md §4): smallest integers, float64 always, Python's sentinel maps. */
import { ClosedMap, ClosedSet, Float, type Message, Pickled, PyEnum, Serialized, type Value } from "./value.ts";

/** Gives a sub-message its frames in the message that is being written; returns the index of its header frame. */
export type PlaceSubMessage = (sub: Serialized | Pickled) => number;

/**
 * Encodes one document.
 *
 * @throws {TypeError} for values that Dask's wire cannot carry (functions, class instances, integers beyond 64 bits),
 *   and for sub-messages where `place` is not given.
 */
export function encode(value: Value, place?: PlaceSubMessage): Uint8Array {
  const encoder = free.pop() ?? new Encoder();
  try {
    return encoder.encode(value, place);
  } finally {
    free.push(encoder);
  }
}

/** Encoders keep their scratch buffer; a nested call (from `place`) takes another one. */
const free: Encoder[] = [];

const SCRATCH = 64 * 1024;
const KEEP_SCRATCH = 4 * 1024 * 1024;

class Encoder {
  #buffer: Buffer = Buffer.allocUnsafeSlow(SCRATCH);
  #view: DataView = new DataView(this.#buffer.buffer);
  #at = 0;
  #place: PlaceSubMessage | undefined;

  encode(value: Value, place: PlaceSubMessage | undefined): Uint8Array {
    this.#at = 0;
    this.#place = place;
    try {
      this.#value(value);
    } finally {
      this.#place = undefined;
    }
    const out = Buffer.allocUnsafe(this.#at);
    this.#buffer.copy(out, 0, 0, this.#at);
    if (this.#buffer.length > KEEP_SCRATCH) {
      this.#buffer = Buffer.allocUnsafeSlow(SCRATCH);
      this.#view = new DataView(this.#buffer.buffer);
    }
    return out;
  }

  #reserve(n: number): void {
    const needed = this.#at + n;
    if (needed <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#at);
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }

  #byte(byte: number): void {
    this.#reserve(1);
    this.#buffer[this.#at++] = byte;
  }

  #value(value: Value): void {
    switch (typeof value) {
      case "string":
        this.#str(value);
        return;
      case "number":
        this.#number(value);
        return;
      case "boolean":
        this.#byte(value ? 0xc3 : 0xc2);
        return;
      case "bigint":
        this.#bigint(value);
        return;
      case "object":
        if (value === null) this.#byte(0xc0);
        else this.#object(value);
        return;
      default:
        throw new TypeError(`msgpack: cannot send a ${typeof value}`);
    }
  }

  #object(value: Exclude<Value, null | boolean | number | bigint | string>): void {
    if (Array.isArray(value)) {
      this.#length(value.length, 0x90, 16, 0xdc);
      for (const item of value as readonly Value[]) this.#value(item);
    } else if (value instanceof Uint8Array) {
      this.#bin(value);
    } else if (value instanceof Map) {
      this.#length(value.size, 0x80, 16, 0xde);
      if (value.size === 0) return;
      for (const [key, item] of value as ReadonlyMap<Value, Value>) {
        this.#value(key);
        this.#value(item);
      }
    } else if (value instanceof ClosedMap) {
      this.#length(value.size, 0x80, 16, 0xde);
      for (const [key, item] of value) {
        this.#value(key);
        this.#value(item);
      }
    } else if (value instanceof Float) {
      this.#float(value.value);
    } else if (value instanceof Serialized) {
      this.#sub("__Serialized__", value);
    } else if (value instanceof Pickled) {
      this.#sub("__Pickled__", value);
    } else if (value instanceof Set || value instanceof ClosedSet) {
      this.#byte(0x82);
      this.#str("__Set__");
      this.#byte(0xc3);
      this.#str("as-list");
      this.#length(value.size, 0x90, 16, 0xdc);
      for (const item of value as Iterable<Value>) this.#value(item);
    } else if (value instanceof PyEnum) {
      this.#byte(0x84);
      this.#str("__Enum__");
      this.#byte(0xc3);
      this.#str("name");
      this.#str(value.name);
      this.#str("__module__");
      this.#str(value.module);
      this.#str("__name__");
      this.#str(value.className);
    } else if (Object.getPrototypeOf(value) === Object.prototype) {
      this.#message(value as Message);
    } else {
      throw new TypeError(`msgpack: cannot send a ${value.constructor.name}`);
    }
  }

  #message(message: Message): void {
    const fields = Object.keys(message);
    let n = fields.length;
    for (const field of fields) if (message[field] === undefined) n--;
    this.#length(n, 0x80, 16, 0xde);
    for (const field of fields) {
      const item = message[field];
      if (item === undefined) continue;
      this.#str(field);
      this.#value(item);
    }
  }

  #sub(sentinel: string, sub: Serialized | Pickled): void {
    if (this.#place === undefined) throw new TypeError("msgpack: a sub-message needs a message to stand in");
    this.#byte(0x81);
    this.#str(sentinel);
    this.#number(this.#place(sub));
  }

  #str(text: string): void {
    const chars = text.length;
    // 5 bytes of header, at most 3 bytes for a UTF-16 unit
    this.#reserve(5 + chars * 3);
    if (chars < 64) {
      const start = this.#at;
      const buffer = this.#buffer;
      let at = start + (chars < 32 ? 1 : 2);
      let i = 0;
      for (; i < chars; i++) {
        const code = text.charCodeAt(i);
        if (code >= 0x80) break;
        buffer[at++] = code;
      }
      if (i === chars) {
        if (chars < 32) buffer[start] = 0xa0 | chars;
        else {
          buffer[start] = 0xd9;
          buffer[start + 1] = chars;
        }
        this.#at = at;
        return;
      }
    }
    if (!text.isWellFormed()) throw new TypeError("msgpack: a string with lone surrogates has no UTF-8 form");
    const length = Buffer.byteLength(text);
    if (length < 32) this.#buffer[this.#at++] = 0xa0 | length;
    else if (length < 0x100) {
      this.#buffer[this.#at++] = 0xd9;
      this.#buffer[this.#at++] = length;
    } else if (length < 0x10000) {
      this.#buffer[this.#at] = 0xda;
      this.#view.setUint16(this.#at + 1, length);
      this.#at += 3;
    } else {
      this.#buffer[this.#at] = 0xdb;
      this.#view.setUint32(this.#at + 1, length);
      this.#at += 5;
    }
    this.#at += this.#buffer.write(text, this.#at);
  }

  #bin(bytes: Uint8Array): void {
    const length = bytes.byteLength;
    this.#reserve(5 + length);
    if (length < 0x100) {
      this.#buffer[this.#at++] = 0xc4;
      this.#buffer[this.#at++] = length;
    } else if (length < 0x10000) {
      this.#buffer[this.#at] = 0xc5;
      this.#view.setUint16(this.#at + 1, length);
      this.#at += 3;
    } else {
      this.#buffer[this.#at] = 0xc6;
      this.#view.setUint32(this.#at + 1, length);
      this.#at += 5;
    }
    this.#buffer.set(bytes, this.#at);
    this.#at += length;
  }

  /** Header of an array or map: `fix` with the length in it, or `wide` (u16), `wide + 1` (u32). */
  #length(length: number, fix: number, fixLimit: number, wide: number): void {
    this.#reserve(5);
    if (length < fixLimit) this.#buffer[this.#at++] = fix | length;
    else if (length < 0x10000) {
      this.#buffer[this.#at] = wide;
      this.#view.setUint16(this.#at + 1, length);
      this.#at += 3;
    } else {
      this.#buffer[this.#at] = wide + 1;
      this.#view.setUint32(this.#at + 1, length);
      this.#at += 5;
    }
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      this.#float(value);
      return;
    }
    this.#reserve(9);
    const at = this.#at;
    const buffer = this.#buffer;
    if (value >= 0) {
      if (value < 0x80) {
        buffer[at] = value;
        this.#at = at + 1;
      } else if (value < 0x100) {
        buffer[at] = 0xcc;
        buffer[at + 1] = value;
        this.#at = at + 2;
      } else if (value < 0x10000) {
        buffer[at] = 0xcd;
        this.#view.setUint16(at + 1, value);
        this.#at = at + 3;
      } else if (value < 0x100000000) {
        buffer[at] = 0xce;
        this.#view.setUint32(at + 1, value);
        this.#at = at + 5;
      } else {
        buffer[at] = 0xcf;
        this.#view.setUint32(at + 1, Math.floor(value / 0x100000000));
        this.#view.setUint32(at + 5, value % 0x100000000);
        this.#at = at + 9;
      }
    } else if (value >= -0x20) {
      buffer[at] = 0x100 + value;
      this.#at = at + 1;
    } else if (value >= -0x80) {
      buffer[at] = 0xd0;
      this.#view.setInt8(at + 1, value);
      this.#at = at + 2;
    } else if (value >= -0x8000) {
      buffer[at] = 0xd1;
      this.#view.setInt16(at + 1, value);
      this.#at = at + 3;
    } else if (value >= -0x80000000) {
      buffer[at] = 0xd2;
      this.#view.setInt32(at + 1, value);
      this.#at = at + 5;
    } else {
      buffer[at] = 0xd3;
      this.#view.setBigInt64(at + 1, BigInt(value));
      this.#at = at + 9;
    }
  }

  #bigint(value: bigint): void {
    if (value >= 0n && value < 1n << 64n) {
      if (value <= 0xffffffffn) {
        this.#number(Number(value));
        return;
      }
      this.#byte(0xcf);
      this.#reserve(8);
      this.#view.setBigUint64(this.#at, value);
    } else if (value < 0n && value >= -(1n << 63n)) {
      if (value >= -0x80000000n) {
        this.#number(Number(value));
        return;
      }
      this.#byte(0xd3);
      this.#reserve(8);
      this.#view.setBigInt64(this.#at, value);
    } else {
      throw new TypeError("msgpack: an integer beyond 64 bits cannot be sent");
    }
    this.#at += 8;
  }

  #float(value: number): void {
    this.#reserve(9);
    this.#buffer[this.#at] = 0xcb;
    this.#view.setFloat64(this.#at + 1, value);
    this.#at += 9;
  }
}
