/**
 * msgpack → values (wire-protocol.md §4). Written for Dask's use: arrays as map keys, floats that stay floats,
 * integers to 2^64, sentinel maps, and no copy of byte strings. docs/decisions.md has the measurements that
 * speak against a general decoder here.
 */
import { ProtocolError } from "../errors.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { Float, type Message, Pickled, PyEnum, Serialized, type Value } from "./value.ts";

/** Resolves `{"__Serialized__": n}` and `{"__Pickled__": n}` to the sub-message at frame n. */
export interface SubMessages {
  serialized(frame: number): Serialized;
  pickled(frame: number): Pickled;
}

/**
 * Decodes one msgpack document.
 *
 * Maps at the top, and maps that are elements of a top-level array, become plain objects when all their keys are
 * strings: these are messages. All other maps become `Map`.
 *
 * @throws {ProtocolError} where the bytes are no msgpack document, hold extension types, or nest too deep.
 */
export function decode(bytes: Uint8Array, subs?: SubMessages, maxDepth: number = DEFAULT_LIMITS.maxDepth): Value {
  const decoder = new Decoder(bytes, subs, maxDepth);
  const value = decoder.value(0, 0);
  if (decoder.at !== bytes.byteLength) {
    throw new ProtocolError(`msgpack: ${bytes.byteLength - decoder.at} bytes are left after the document`);
  }
  return value;
}

const INTERN_SLOTS = 2048;
const INTERN_MAX = 40;
/** Field names and other short strings that come again and again, by a cheap hash of their bytes. */
const interned: { bytes: Uint8Array; text: string }[] = new Array(INTERN_SLOTS);

class Decoder {
  at = 0;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #subs: SubMessages | undefined;
  readonly #maxDepth: number;

  constructor(bytes: Uint8Array, subs: SubMessages | undefined, maxDepth: number) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#subs = subs;
    this.#maxDepth = maxDepth;
  }

  /** `messageLevel`: 0 at the top, 1 for elements of a top-level array, 2 deeper. */
  value(messageLevel: number, depth: number): Value {
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
        return integralFloat(this.#view.getFloat32(this.#skip(4)));
      case 0xcb:
        return integralFloat(this.#view.getFloat64(this.#skip(8)));
      case 0xcc:
        return this.#u8();
      case 0xcd:
        return this.#u16();
      case 0xce:
        return this.#u32();
      case 0xcf:
        return exactInteger(this.#view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return exactInteger(this.#view.getBigInt64(this.#skip(8)));
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
        throw new ProtocolError(`msgpack: tag 0x${tag.toString(16)} is not used by Dask`);
    }
  }

  #skip(n: number): number {
    const at = this.at;
    if (n > this.#bytes.length - at) throw new ProtocolError("msgpack: the document ends in the middle of a value");
    this.at = at + n;
    return at;
  }

  #u8(): number {
    return this.#bytes[this.#skip(1)]!;
  }

  #u16(): number {
    return this.#view.getUint16(this.#skip(2));
  }

  #u32(): number {
    return this.#view.getUint32(this.#skip(4));
  }

  #bin(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #str(length: number): string {
    const at = this.#skip(length);
    if (length > INTERN_MAX) return this.#utf8(at, at + length);
    const bytes = this.#bytes;
    let hash = length;
    for (let i = at; i < at + length; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0;
    const slot = hash & (INTERN_SLOTS - 1);
    const entry = interned[slot];
    if (entry !== undefined && entry.bytes.length === length) {
      let i = 0;
      while (i < length && entry.bytes[i] === bytes[at + i]) i++;
      if (i === length) return entry.text;
    }
    const text = this.#utf8(at, at + length);
    interned[slot] = { bytes: Uint8Array.prototype.slice.call(bytes, at, at + length), text };
    return text;
  }

  #utf8(from: number, to: number): string {
    const text = this.#bytes.toString("utf8", from, to);
    // A replacement character is either in the text itself or the mark of bytes that are no UTF-8.
    if (text.includes("\ufffd") && Buffer.byteLength(text) !== to - from) {
      throw new ProtocolError("msgpack: a string is not valid UTF-8");
    }
    return text;
  }

  #array(length: number, messageLevel: number, depth: number): Value[] {
    this.#checkSize(length, depth);
    const level = messageLevel === 0 ? 1 : 2;
    const out: Value[] = [];
    for (let i = 0; i < length; i++) out.push(this.value(level, depth + 1));
    return out;
  }

  /** Every element takes a byte at least: a length beyond the document is a lie, told before anything is allocated. */
  #checkSize(length: number, depth: number): void {
    if (length > this.#bytes.length - this.at) {
      throw new ProtocolError("msgpack: the document ends in the middle of a value");
    }
    if (depth >= this.#maxDepth) throw new ProtocolError(`msgpack: nested deeper than ${this.#maxDepth}`);
  }

  #map(length: number, messageLevel: number, depth: number): Value {
    this.#checkSize(length * 2, depth);
    if (messageLevel < 2) return this.#message(length, depth);
    const out = new Map<Value, Value>();
    for (let i = 0; i < length; i++) {
      const key = this.value(2, depth + 1);
      out.set(key, this.value(2, depth + 1));
    }
    return length > 0 && length <= 4 ? this.#sentinel(out) : out;
  }

  #message(length: number, depth: number): Value {
    const out: Message = {};
    for (let i = 0; i < length; i++) {
      const key = this.value(2, depth + 1);
      if (typeof key !== "string" || key === "__proto__") {
        const map = new Map<Value, Value>(Object.entries(out) as [string, Value][]);
        map.set(key, this.value(2, depth + 1));
        for (let j = i + 1; j < length; j++) {
          const k = this.value(2, depth + 1);
          map.set(k, this.value(2, depth + 1));
        }
        return map;
      }
      out[key] = this.value(2, depth + 1);
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
      return new Set<Value>(list as Value[]);
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

function exactInteger(value: bigint): number | bigint {
  return value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value;
}
