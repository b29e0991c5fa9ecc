/**
 * Compression of payload frames (wire-protocol.md §7; distributed.protocol.compression).
 *
 *     lz4   u32 LE size of the unpacked frame | LZ4 block
 *     zlib  zlib stream
 *
 * Frame 0 and sub-headers are never compressed.
 */
import { promisify } from "node:util";
import { deflate, deflateSync, inflateSync } from "node:zlib";
import { compress as compressLz4, compressSync, uncompressSync } from "lz4-napi";
import { ProtocolError } from "./errors.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";

/** Names that {@link compressFrame} and {@link decompressFrame} know; null is none. */
export type Compression = "lz4" | "zlib";

const deflateAsync = promisify(deflate) as (bytes: Buffer) => Promise<Buffer>;

const MIN_SIZE = 10_000;
/** Beyond this, compression libraries often fail. */
const MAX_SIZE = 2 ** 31;
const SAMPLE_SIZE = 10_000;
const SAMPLES = 5;
const MIN_RATIO = 0.7;
/** One byte of an LZ4 block stands for 255 bytes at most. */
const LZ4_MAX_RATIO = 255;

export function isCompression(name: unknown): name is Compression {
  return name === "lz4" || name === "zlib";
}

/**
 * `maybe_compress`: frames under 10 kB or over 2 GiB, and frames that do not shrink to 70 %, stay as they are. The
 * samples are taken at fixed places, where Dask draws them.
 *
 * @returns the name for the sub-header's `compression` entry (null: sent as it is), and the bytes.
 * @throws {ProtocolError} for a name that is not supported here.
 */
export function compressFrame(name: string | null, frame: Uint8Array): CompressedFrame {
  if (name === null) return { compression: null, bytes: frame };
  const compression = supported(name);
  if (isPromising(compression, frame)) {
    const bytes = compress(compression, frame);
    if (bytes.byteLength <= MIN_RATIO * frame.byteLength) return { compression, bytes };
  }
  return { compression: null, bytes: frame };
}

export interface CompressedFrame {
  readonly compression: Compression | null;
  readonly bytes: Uint8Array;
}

/** Its size is one that is compressed at all, and samples of a large one shrink. */
function isPromising(compression: Compression, frame: Uint8Array): boolean {
  if (frame.byteLength < MIN_SIZE || frame.byteLength > MAX_SIZE) return false;
  const trial = sample(frame);
  return trial === frame || compress(compression, trial).byteLength <= MIN_RATIO * trial.byteLength;
}

/** {@link compressFrame} in a thread of Node's pool: what is large does not hold the event loop. */
export async function compressFrameAsync(name: string, frame: Uint8Array): Promise<CompressedFrame> {
  const compression = supported(name);
  if (!isPromising(compression, frame)) return { compression: null, bytes: frame };
  const buffer = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  const bytes = compression === "lz4" ? await compressLz4(buffer) : await deflateAsync(buffer);
  return bytes.byteLength <= MIN_RATIO * frame.byteLength
    ? { compression, bytes }
    : { compression: null, bytes: frame };
}

/**
 * The frame as it was before {@link compressFrame}, or before a stock peer's `maybe_compress`.
 *
 * @throws {ProtocolError} for an unknown name, for bytes that do not unpack, and where the unpacked frame would be
 *   over `limits.maxFrameBytes`. Nothing of an announced size is allocated that the packed bytes could not fill.
 */
export function decompressFrame(
  name: string | null,
  frame: Uint8Array,
  limits: Pick<Limits, "maxFrameBytes"> = DEFAULT_LIMITS,
): Uint8Array {
  if (name === null) return frame;
  return supported(name) === "lz4" ? unpackLz4(frame, limits.maxFrameBytes) : unpackZlib(frame, limits.maxFrameBytes);
}

function supported(name: string): Compression {
  if (isCompression(name)) return name;
  throw new ProtocolError(`compression ${JSON.stringify(name)} is not supported, only "lz4" and "zlib"`);
}

function compress(name: Compression, bytes: Uint8Array): Uint8Array {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return name === "lz4" ? compressSync(buffer) : deflateSync(buffer);
}

/** Five pieces spread evenly over the frame; the frame itself where it is no longer than these. */
function sample(frame: Uint8Array): Uint8Array {
  if (frame.byteLength <= SAMPLES * SAMPLE_SIZE) return frame;
  const step = Math.floor((frame.byteLength - SAMPLE_SIZE) / (SAMPLES - 1));
  const pieces = Array.from({ length: SAMPLES }, (_, i) => frame.subarray(i * step, i * step + SAMPLE_SIZE));
  return Buffer.concat(pieces);
}

function unpackLz4(frame: Uint8Array, maxBytes: number): Uint8Array {
  if (frame.byteLength < 5) throw new ProtocolError("lz4: the frame is too short");
  const size = Buffer.from(frame.buffer, frame.byteOffset, 4).readUInt32LE(0);
  checkSize("lz4", size, maxBytes);
  if (size > (frame.byteLength - 4) * LZ4_MAX_RATIO) {
    throw new ProtocolError(`lz4: ${frame.byteLength} bytes cannot unpack to ${size}`);
  }
  let out: Buffer;
  try {
    out = uncompressSync(frame);
  } catch (cause) {
    throw new ProtocolError("lz4: the frame does not unpack", { cause });
  }
  if (out.byteLength !== size) {
    throw new ProtocolError(`lz4: the frame says it has ${size} bytes, but it has ${out.byteLength}`);
  }
  return out;
}

function unpackZlib(frame: Uint8Array, maxBytes: number): Uint8Array {
  try {
    // Zero would mean no limit at all to some, and is an error to others.
    const out = inflateSync(frame, { maxOutputLength: Math.max(1, Math.min(maxBytes, MAX_SIZE)) });
    checkSize("zlib", out.byteLength, maxBytes);
    return out;
  } catch (cause) {
    if (cause instanceof ProtocolError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") checkSize("zlib", Infinity, maxBytes);
    throw new ProtocolError("zlib: the frame does not unpack", { cause });
  }
}

function checkSize(name: Compression, size: number, maxBytes: number): void {
  const limit = Math.min(maxBytes, MAX_SIZE);
  if (size <= limit) return;
  const announced = Number.isFinite(size) ? `of ${size} bytes ` : "";
  throw new ProtocolError(`${name}: a frame ${announced}is over the limit of ${limit} when unpacked`);
}
