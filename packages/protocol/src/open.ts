/** Values inside a {@link Serialized} that can be read without Python (wire-protocol.md §5.2, §6). */
import { decompressFrame } from "./compression.ts";
import { ProtocolError } from "./errors.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import { decodeSubHeader } from "./message.ts";
import { decode } from "./msgpack/decode.ts";
import type { Serialized, Value } from "./msgpack/value.ts";

type SubHeader = ReadonlyMap<Value, Value>;

/**
 * The payload as its serializer wrote it: frames decompressed by their `compression` entries, and joined where
 * `split-num-sub-frames` says that one frame was cut into several (`merge_and_deserialize`).
 *
 * @throws {ProtocolError} where header and frames do not fit together, or a frame does not unpack.
 */
export function logicalFrames(serialized: Serialized, limits: Limits = DEFAULT_LIMITS): Uint8Array[] {
  return framesOf(decodeSubHeader(serialized.header), serialized.frames, limits);
}

/**
 * The value of bytes (`dask` family), of what came with the `msgpack` family, and of lists, tuples, sets and dicts of
 * these. Undefined where only Python can open the value.
 *
 * @throws {ProtocolError} as {@link logicalFrames}, and where a msgpack payload is none.
 */
export function openBytes(serialized: Serialized, limits: Limits = DEFAULT_LIMITS): Value | undefined {
  const header = decodeSubHeader(serialized.header);
  if (!isOpen(header)) return undefined;
  return open(header, framesOf(header, serialized.frames, limits), limits);
}

function framesOf(header: SubHeader, payload: readonly Uint8Array[], limits: Limits): Uint8Array[] {
  const unpacked = decompressed(header.get("compression"), payload, limits);
  const counts = header.get("split-num-sub-frames");
  if (counts === undefined || counts === null) return unpacked;
  const offsets = header.get("split-offsets");
  if (!Array.isArray(counts) || !Array.isArray(offsets) || counts.length !== offsets.length) {
    throw new ProtocolError("a sub-header whose split-num-sub-frames and split-offsets do not fit together");
  }
  let total = 0;
  return counts.map((count: Value, i) => {
    const slice = unpacked.slice(...range(offsets[i] as Value, count, unpacked.length));
    if (slice.length === 1) return slice[0] as Uint8Array;
    for (const piece of slice) total += piece.byteLength;
    // Overlapping offsets could name the same frames again and again.
    if (total > limits.maxMessageBytes) throw new ProtocolError("the frames of a sub-message are over the limit");
    return Buffer.concat(slice);
  });
}

function range(offset: Value, count: Value, available: number): [number, number] {
  if (!isCount(offset) || !isCount(count) || offset + count > available) {
    throw new ProtocolError("a sub-header whose split-offsets lie outside its frames");
  }
  return [offset, offset + count];
}

function isCount(value: Value | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function decompressed(
  compression: Value | undefined,
  payload: readonly Uint8Array[],
  limits: Limits,
): readonly Uint8Array[] & Uint8Array[] {
  if (compression === undefined || compression === null) return [...payload];
  if (!Array.isArray(compression) || compression.length !== payload.length) {
    throw new ProtocolError("a sub-header whose compression does not fit its frames");
  }
  // What is left for all frames together: many of them may each unpack to the limit of one.
  let room = limits.maxUnpackedBytes;
  return payload.map((frame, i) => {
    const name = compression[i] as Value;
    if (name !== null && name !== false && typeof name !== "string") {
      throw new ProtocolError("a sub-header with a compression that is no name");
    }
    if (name === null || name === false) return frame;
    const out = decompressFrame(name, frame, { maxFrameBytes: Math.min(limits.maxFrameBytes, room) });
    room -= out.byteLength;
    return out;
  });
}

/** True where the header, and those of all elements, name a serializer that needs no Python. */
function isOpen(header: SubHeader): boolean {
  if (header.has("is-collection")) return elementHeaders(header).every(isOpen);
  const serializer = header.get("serializer");
  if (serializer === "msgpack") return true;
  const type = header.get("type");
  return serializer === "dask" && (type === "bytes" || type === "bytearray");
}

function elementHeaders(header: SubHeader): SubHeader[] {
  const headers = header.get("sub-headers");
  if (!Array.isArray(headers) || !headers.every((element) => element instanceof Map)) {
    throw new ProtocolError("a collection without its sub-headers");
  }
  return headers;
}

function open(header: SubHeader, frames: readonly Uint8Array[], limits: Limits): Value {
  if (header.has("is-collection")) return openCollection(header, frames, limits);
  const bytes = frames.length === 1 ? frames[0]! : Buffer.concat(frames);
  if (header.get("serializer") !== "msgpack") return bytes;
  return decode(bytes, undefined, limits);
}

function openCollection(header: SubHeader, frames: readonly Uint8Array[], limits: Limits): Value {
  const headers = elementHeaders(header);
  const lengths = header.get("frame-lengths");
  if (!Array.isArray(lengths) || lengths.length !== headers.length) {
    throw new ProtocolError("a collection whose frame-lengths do not fit its sub-headers");
  }
  let at = 0;
  const values = headers.map((element, i) => {
    const [from, to] = range(at, lengths[i] as Value, frames.length);
    at = to;
    return open(element, frames.slice(from, to), limits);
  });
  const type = header.get("type-serialized");
  if (type === "list" || type === "tuple") return values;
  if (type === "set") return new Set(values);
  if (type === "dict") return new Map(values.map((value, i) => [headers[i]!.get("key") ?? null, value]));
  throw new ProtocolError("a collection of an unknown type");
}
