/**
 * The values that travel in Dask messages, as TypeScript sees them.
 *
 * | Python (on the wire)            | here                                              |
 * | ------------------------------- | ------------------------------------------------- |
 * | None, bool, str                 | null, boolean, string                             |
 * | int up to 2^53, beyond          | number, bigint                                    |
 * | float with a fraction, nan, inf | number                                            |
 * | float with an integral value    | {@link Float}, so that `1.0` is not sent back as 1 |
 * | bytes                           | Uint8Array (a view into the received frame)       |
 * | list, tuple                     | array                                             |
 * | dict: the message itself        | plain object ({@link Message})                    |
 * | dict: anywhere deeper           | Map, whose keys may be arrays                     |
 * | set                             | Set; `keys` of a large graph: {@link ClosedSet}   |
 * | enum                            | {@link PyEnum}                                    |
 * | Serialize / Serialized          | {@link Serialized}                                |
 * | ToPickle / Pickled, fallback    | {@link Pickled}                                   |
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Float
  | Uint8Array
  | Value[]
  | readonly Value[]
  | Map<Value, Value>
  | ReadonlyMap<Value, Value>
  | Set<Value>
  | ReadonlySet<Value>
  | ClosedSet
  | ClosedMap
  | PyEnum
  | Serialized
  | Pickled
  | Message;

/** A message, or one element of a batch: field name to value. Fields that are `undefined` are not sent. */
export interface Message {
  [field: string]: Value | undefined;
}

/** A Python float whose value is integral. Everything that computes reads it with {@link asNumber}. */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
  valueOf(): number {
    return this.value;
  }
  toJSON(): number {
    return this.value;
  }
}

/** A member of a Python `enum.Enum`, by name only (`dask.typing.NoDefault.no_default`). */
export class PyEnum {
  readonly module: string;
  readonly className: string;
  readonly name: string;
  constructor(module: string, className: string, name: string) {
    this.module = module;
    this.className = className;
    this.name = name;
  }
}

/**
 * A received set of very many elements. They are decoded while they are iterated over, and never hashed, so that whoever
 * takes them can pause in between: 200,000 keys as a Set hold everything up for a quarter of a second.
 */
export class ClosedSet {
  readonly size: number;
  readonly #elements: () => Iterator<Value>;
  constructor(size: number, elements: () => Iterator<Value>) {
    this.size = size;
    this.#elements = elements;
  }
  /** @throws {ProtocolError} in the middle, where an element cannot be decoded. */
  [Symbol.iterator](): Iterator<Value> {
    return this.#elements();
  }
}

/** The same for a map: `internal_priority` of a large graph. */
export class ClosedMap {
  readonly size: number;
  readonly #flat: () => Iterator<Value>;
  /** @param flat gives key, value, key, value, …. */
  constructor(size: number, flat: () => Iterator<Value>) {
    this.size = size;
    this.#flat = flat;
  }
  /** @throws {ProtocolError} in the middle, where an element cannot be decoded. */
  *[Symbol.iterator](): Iterator<[key: Value, value: Value]> {
    const flat = this.#flat();
    for (let left = this.size; left > 0; left--) yield [flat.next().value as Value, flat.next().value as Value];
  }
}

/**
 * A sub-message: its sub-header (an encoded msgpack map) and its payload frames, exactly as they came.
 * Nothing in this process opens it; it is stored and forwarded as it is.
 */
abstract class SubMessage {
  readonly header: Uint8Array;
  readonly frames: readonly Uint8Array[];
  constructor(header: Uint8Array, frames: readonly Uint8Array[]) {
    this.header = header;
    this.frames = frames;
  }
  /** Bytes held by header and payload together. */
  get nbytes(): number {
    let n = this.header.byteLength;
    for (const frame of this.frames) n += frame.byteLength;
    return n;
  }
}

/** `__Serialized__`: a value that went through Dask's serializer families. */
export class Serialized extends SubMessage {
  readonly kind = "serialized" as const;
  /** A copy that holds no part of a larger received buffer; for values that are kept. */
  compact(): Serialized {
    return new Serialized(compactBytes(this.header), this.frames.map(compactBytes));
  }
}

/** `__Pickled__`: a pickle (in the header) with its out-of-band buffers (the frames). */
export class Pickled extends SubMessage {
  readonly kind = "pickled" as const;
  /** A copy that holds no part of a larger received buffer; for values that are kept. */
  compact(): Pickled {
    return new Pickled(compactBytes(this.header), this.frames.map(compactBytes));
  }
}

/** Copies a view that is much smaller than the buffer below it, so that keeping it does not keep that buffer. */
export function compactBytes(bytes: Uint8Array): Uint8Array {
  return bytes.buffer.byteLength > 2 * bytes.byteLength + 1024 ? Uint8Array.prototype.slice.call(bytes) : bytes;
}

/** The number in a field that Python may have sent as int, bool or float; `fallback` where it is none. */
export function asNumber(value: Value | undefined, fallback: number): number {
  if (typeof value === "number") return value;
  if (value instanceof Float) return value.value;
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "boolean") return value ? 1 : 0;
  return fallback;
}

/** A number to be sent as a Python float, whatever its value. */
export function float(value: number): Value {
  return Number.isInteger(value) ? new Float(value) : value;
}

/** True for a plain object that stands for a message (not a Map, array, or one of the classes above). */
export function isMessage(value: Value | undefined): value is Message {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
