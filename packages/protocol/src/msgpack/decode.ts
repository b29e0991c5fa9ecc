/**
 * msgpack → values (wire-protocol.md §4). Written for Dask's use: arrays as map keys, floats that stay floats,
 * integers to 2^64, sentinel maps, and no copy of byte strings. docs/decisions/codec.md has the measurements that
 * speak against a general decoder here.
 */
import { ProtocolError } from "../errors.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import { readText } from "./text.ts";
import { ClosedMap, ClosedSet, Float, type Message, Pickled, PyEnum, Serialized, type Value } from "./value.ts";

/** Resolves `{"__Serialized__": n}` and `{"__Pickled__": n}` to the sub-message at frame n. */
export interface SubMessages {
  serialized(frame: number): Serialized;
  pickled(frame: number): Pickled;
}

export type DecodeLimits = Pick<Limits, "maxDepth" | "maxUnpackedBytes">;

/**
 * Decodes one msgpack document.
 *
 * Maps at the top, and maps that are elements of a top-level array, become plain objects when all their keys are
 * strings: these are messages. All other maps become `Map`.
 *
 * @throws {ProtocolError} where the bytes are no msgpack document, hold extension types, nest too deep, or would take
 *   too much memory.
 */
export function decode(bytes: Uint8Array, subs?: SubMessages, limits: DecodeLimits = DEFAULT_LIMITS): Value {
  const decoder = free.pop() ?? new Decoder();
  try {
    return decoder.decode(bytes, subs, limits);
  } finally {
    free.push(decoder);
  }
}

/**
 * `num-sub-frames` of an encoded sub-header, without decoding what else it holds.
 *
 * @throws {ProtocolError} where the bytes are no map with such a field.
 */
export function subFrameCount(header: Uint8Array): number {
  const decoder = free.pop() ?? new Decoder();
  try {
    return decoder.subFrameCount(header);
  } finally {
    free.push(decoder);
  }
}

/** Decoders at rest; a nested call (from `subs`) takes another one. */
const free: Decoder[] = [];

const NO_BYTES = Buffer.alloc(0);
const NUM_SUB_FRAMES = Buffer.from("num-sub-frames");
const SET = Buffer.from("__Set__");
const AS_LIST = Buffer.from("as-list");

/** Sets of so many elements stay closed where the receiver expects that: `keys` of `update-graph`. */
const CLOSED_SIZE = 4096;

/** Memory of containers in V8, by measurement. */
const ARRAY_BYTES = 64;
const ELEMENT_BYTES = 8;
const MAP_BYTES = 200;
const ENTRY_BYTES = 32;

/** To read a float64 whatever its alignment. */
const float64 = new Float64Array(1);
const float64Bytes = new Uint8Array(float64.buffer);
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

class Decoder {
  #at = 0;
  #bytes: Buffer = NO_BYTES;
  #end = 0;
  #subs: SubMessages | undefined;
  #maxDepth = 0;
  #maxUnpacked: number = DEFAULT_LIMITS.maxUnpackedBytes;
  /** What the document may still take; see `maxUnpackedBytes`. */
  #room: number = DEFAULT_LIMITS.maxUnpackedBytes;

  decode(bytes: Uint8Array, subs: SubMessages | undefined, limits: DecodeLimits): Value {
    this.#start(bytes);
    this.#subs = subs;
    this.#maxDepth = limits.maxDepth;
    this.#maxUnpacked = limits.maxUnpackedBytes;
    this.#room = limits.maxUnpackedBytes;
    try {
      const value = this.#value(0, 0);
      if (this.#at !== this.#end) {
        throw new ProtocolError(`msgpack: ${this.#end - this.#at} bytes are left after the document`);
      }
      return value;
    } finally {
      this.#bytes = NO_BYTES;
      this.#subs = undefined;
    }
  }

  subFrameCount(header: Uint8Array): number {
    this.#start(header);
    try {
      const tag = this.#u8();
      let fields = 0;
      if (tag >= 0x80 && tag < 0x90) fields = tag & 0x0f;
      else if (tag === 0xde) fields = this.#u16();
      else if (tag === 0xdf) fields = this.#u32();
      for (; fields > 0; fields--) {
        if (this.#matches(NUM_SUB_FRAMES)) {
          const count = this.#value(2, 0);
          if (typeof count === "number" && Number.isInteger(count) && count >= 0) return count;
          break;
        }
        this.#pass(2);
      }
      throw new ProtocolError("a sub-header without num-sub-frames");
    } finally {
      this.#bytes = NO_BYTES;
    }
  }

  #start(bytes: Uint8Array): void {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = 0;
    this.#end = bytes.byteLength;
  }

  /** True, and past it, where the next value is this short string. */
  #matches(name: Uint8Array): boolean {
    const at = this.#at;
    const length = name.length;
    if (this.#end - at <= length || this.#bytes[at] !== (0xa0 | length)) return false;
    for (let i = 0; i < length; i++) if (this.#bytes[at + 1 + i] !== name[i]) return false;
    this.#at = at + 1 + length;
    return true;
  }

  /**
   * Passes over values, however deep, in a loop. Mostly they are hundreds of thousands of short strings, and nothing of
   * this is compiled yet: without calls in the loop it takes a third of the time.
   */
  #pass(values: number): void {
    const bytes = this.#bytes;
    const end = this.#end;
    let at = this.#at;
    for (let left = values; left > 0; left--) {
      if (at >= end) throw cutShort();
      const tag = bytes[at++]!;
      if (tag >= 0xa0 && tag < 0xc0) at += tag & 0x1f;
      else if (tag === 0xd9 && at < end) at += 1 + bytes[at]!;
      else if (tag < 0x80 || tag >= 0xe0) continue;
      else if (tag < 0x90) left += 2 * (tag & 0x0f);
      else if (tag < 0xa0) left += tag & 0x0f;
      else {
        this.#at = at;
        left += this.#passTagged(tag);
        at = this.#at;
      }
    }
    if (at > end) throw cutShort();
    this.#at = at;
  }

  /** @returns how many values follow inside. */
  #passTagged(tag: number): number {
    switch (tag) {
      case 0xc0:
      case 0xc2:
      case 0xc3:
        return 0;
      case 0xc4:
      case 0xd9:
        this.#skip(this.#u8());
        return 0;
      case 0xc5:
      case 0xda:
        this.#skip(this.#u16());
        return 0;
      case 0xc6:
      case 0xdb:
        this.#skip(this.#u32());
        return 0;
      case 0xcc:
      case 0xd0:
        this.#skip(1);
        return 0;
      case 0xcd:
      case 0xd1:
        this.#skip(2);
        return 0;
      case 0xca:
      case 0xce:
      case 0xd2:
        this.#skip(4);
        return 0;
      case 0xcb:
      case 0xcf:
      case 0xd3:
        this.#skip(8);
        return 0;
      case 0xdc:
        return this.#u16();
      case 0xdd:
        return this.#u32();
      case 0xde:
        return 2 * this.#u16();
      case 0xdf:
        return 2 * this.#u32();
      default:
        throw unknownTag(tag);
    }
  }

  /** `messageLevel`: 0 at the top, 1 for elements of a top-level array, 2 deeper. */
  #value(messageLevel: number, depth: number): Value {
    const tag = this.#u8();
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    if (tag >= 0xa0 && tag < 0xc0) return this.#str(tag & 0x1f);
    if (tag < 0x90) return this.#map(tag & 0x0f, messageLevel, depth);
    if (tag < 0xa0) return this.#array(tag & 0x0f, messageLevel, depth);
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#bin(this.#u8());
      case 0xc5:
        return this.#bin(this.#u16());
      case 0xc6:
        return this.#bin(this.#u32());
      case 0xca:
        return integralFloat(this.#bytes.readFloatBE(this.#skip(4)));
      case 0xcb:
        return integralFloat(this.#float64(this.#skip(8)));
      case 0xcc:
        return this.#u8();
      case 0xcd:
        return this.#u16();
      case 0xce:
        return this.#u32();
      case 0xcf:
        return this.#u64();
      case 0xd0:
        return (this.#u8() << 24) >> 24;
      case 0xd1:
        return (this.#u16() << 16) >> 16;
      case 0xd2:
        return this.#u32() | 0;
      case 0xd3:
        return this.#i64();
      case 0xd9:
        return this.#str(this.#u8());
      case 0xda:
        return this.#str(this.#u16());
      case 0xdb:
        return this.#str(this.#u32());
      case 0xdc:
        return this.#array(this.#u16(), messageLevel, depth);
      case 0xdd:
        return this.#array(this.#u32(), messageLevel, depth);
      case 0xde:
        return this.#map(this.#u16(), messageLevel, depth);
      case 0xdf:
        return this.#map(this.#u32(), messageLevel, depth);
      default:
        throw unknownTag(tag);
    }
  }

  #skip(n: number): number {
    const at = this.#at;
    if (n > this.#end - at) throw cutShort();
    this.#at = at + n;
    return at;
  }

  #u8(): number {
    return this.#bytes[this.#skip(1)]!;
  }

  #u16(): number {
    const at = this.#skip(2);
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }

  #u32(): number {
    const at = this.#skip(4);
    const bytes = this.#bytes;
    return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
  }

  #u64(): number | bigint {
    const high = this.#u32();
    const low = this.#u32();
    if (high < 0x200000) return high * 0x100000000 + low;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  #i64(): number | bigint {
    const high = this.#u32() | 0;
    const low = this.#u32();
    const value = high * 0x100000000 + low;
    return Number.isSafeInteger(value) ? value : (BigInt(high) << 32n) | BigInt(low);
  }

  #float64(at: number): number {
    if (!LITTLE_ENDIAN) return this.#bytes.readDoubleBE(at);
    for (let i = 0; i < 8; i++) float64Bytes[7 - i] = this.#bytes[at + i]!;
    return float64[0]!;
  }

  #bin(length: number): Uint8Array {
    const at = this.#skip(length);
    const bytes = this.#bytes;
    return new Uint8Array(bytes.buffer, bytes.byteOffset + at, length);
  }

  #str(length: number): string {
    const at = this.#skip(length);
    return readText(this.#bytes, at, at + length);
  }

  #array(length: number, messageLevel: number, depth: number): Value[] {
    this.#checkSize(length, depth);
    this.#take(ARRAY_BYTES + ELEMENT_BYTES * length);
    const level = messageLevel === 0 ? 1 : 2;
    const out: Value[] = [];
    for (let i = 0; i < length; i++) out.push(this.#value(level, depth + 1));
    return out;
  }

  /** Every element takes a byte at least: a length beyond the document is a lie, told before anything is allocated. */
  #checkSize(length: number, depth: number): void {
    if (length > this.#end - this.#at) throw cutShort();
    if (depth >= this.#maxDepth) throw new ProtocolError(`msgpack: nested deeper than ${this.#maxDepth}`);
  }

  /** Counts what a container takes, about. */
  #take(bytes: number): void {
    this.#room -= bytes;
    if (this.#room >= 0) return;
    throw new ProtocolError(`msgpack: the values of the document take more than ${this.#maxUnpacked} bytes`);
  }

  #map(length: number, messageLevel: number, depth: number): Value {
    this.#checkSize(length * 2, depth);
    this.#take(MAP_BYTES + ENTRY_BYTES * length);
    if (messageLevel < 2) return this.#message(length, depth);
    const out = new Map<Value, Value>();
    for (let i = 0; i < length; i++) {
      const key = this.#value(2, depth + 1);
      out.set(key, this.#value(2, depth + 1));
    }
    return length > 0 && length <= 4 ? this.#sentinel(out) : out;
  }

  #message(length: number, depth: number): Value {
    const out: Message = {};
    for (let i = 0; i < length; i++) {
      const key = this.#value(2, depth + 1);
      if (typeof key !== "string" || key === "__proto__") {
        const map = new Map<Value, Value>(Object.entries(out) as [string, Value][]);
        map.set(key, this.#value(2, depth + 1));
        for (let j = i + 1; j < length; j++) {
          const k = this.#value(2, depth + 1);
          map.set(k, this.#value(2, depth + 1));
        }
        return map;
      }
      if (out["op"] !== "update-graph") out[key] = this.#value(2, depth + 1);
      else if (key === "keys") out[key] = this.#largeSet(depth + 1);
      else if (key === "internal_priority") out[key] = this.#largeMap(depth + 1);
      else out[key] = this.#value(2, depth + 1);
    }
    if (length > 0 && length <= 4) {
      for (const key in out) {
        if (!key.startsWith("__")) return out;
        const map = new Map<Value, Value>(Object.entries(out) as [string, Value][]);
        const special = this.#sentinel(map);
        return special === map ? out : special;
      }
    }
    return out;
  }

  /** A set, closed where it is large, or whatever value stands here. */
  #largeSet(depth: number): Value {
    const start = this.#at;
    if (this.#bytes[start] === 0x82) {
      this.#at++;
      if (this.#matches(SET) && this.#u8() === 0xc3 && this.#matches(AS_LIST)) {
        const tag = this.#u8();
        const size = tag === 0xdc ? this.#u16() : tag === 0xdd ? this.#u32() : 0;
        if (size >= CLOSED_SIZE) return new ClosedSet(size, this.#closed(size, depth + 1));
      }
      this.#at = start;
    }
    return this.#value(2, depth);
  }

  /** The same for a map. */
  #largeMap(depth: number): Value {
    const start = this.#at;
    const tag = this.#u8();
    const size = tag === 0xde ? this.#u16() : tag === 0xdf ? this.#u32() : 0;
    if (size >= CLOSED_SIZE) return new ClosedMap(size, this.#closed(2 * size, depth));
    this.#at = start;
    return this.#value(2, depth);
  }

  /** Passes over so many values, which can be had later. */
  #closed(count: number, depth: number): () => Iterator<Value> {
    this.#checkSize(count, depth);
    const from = this.#at;
    this.#pass(count);
    const bytes = this.#bytes.subarray(from, this.#at);
    const maxDepth = this.#maxDepth - depth - 1;
    return () => new Decoder().elements(bytes, count, maxDepth);
  }

  /** Values that stand one after the other; this decoder serves nothing else meanwhile. */
  *elements(bytes: Buffer, count: number, maxDepth: number): Generator<Value, undefined> {
    this.#start(bytes);
    this.#maxDepth = maxDepth;
    for (let i = 0; i < count; i++) yield this.#value(2, 0);
    return undefined;
  }

  /** The object hook of distributed.protocol.core.loads / msgpack_decode_default. */
  #sentinel(map: Map<Value, Value>): Value {
    for (const key of map.keys()) {
      if (typeof key !== "string" || key.charCodeAt(0) !== 95 || key.charCodeAt(1) !== 95) return map;
      break;
    }
    const serialized = map.get("__Serialized__");
    if (typeof serialized === "number" && serialized > 0 && this.#subs !== undefined) {
      return this.#subs.serialized(serialized);
    }
    const pickled = map.get("__Pickled__");
    if (typeof pickled === "number" && pickled > 0 && this.#subs !== undefined) return this.#subs.pickled(pickled);
    if (map.get("__Set__") === true) {
      const list = map.get("as-list");
      if (!Array.isArray(list)) throw new ProtocolError("msgpack: a set without its list");
      return new Set<Value>(list);
    }
    if (map.get("__Enum__") === true) {
      const [module, className, name] = [map.get("__module__"), map.get("__name__"), map.get("name")];
      if (typeof module !== "string" || typeof className !== "string" || typeof name !== "string") {
        throw new ProtocolError("msgpack: an enum without module, class and name");
      }
      return new PyEnum(module, className, name);
    }
    return map;
  }
}

function integralFloat(value: number): number | Float {
  return Number.isInteger(value) ? new Float(value) : value;
}

function cutShort(): ProtocolError {
  return new ProtocolError("msgpack: the document ends in the middle of a value");
}

function unknownTag(tag: number): ProtocolError {
  return new ProtocolError(`msgpack: tag 0x${tag.toString(16)} is not used by Dask`);
}
