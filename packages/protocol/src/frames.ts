/**
 * Framing (wire-protocol.md §2). All integers are u64 little endian:
 *
 *     nosplit | nframes | length[nframes] | frame[0] … frame[nframes-1]
 *
 * `nosplit` is a hint for the reader's memory layout (bytes to read into one buffer); readers may ignore it,
 * writers may say "everything".
 */
import { ProtocolError } from "./errors.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";

/** Frames smaller than this are copied into one buffer with their neighbours; larger ones are written as they are. */
const COPY_BELOW = 16 * 1024;
/** Memory for a frame is taken in steps as its bytes arrive, so that an announced size alone costs nothing. */
const FIRST_STEP = 16 * 2 ** 20;
const STEP_FACTOR = 4;
const TWO_32 = 2 ** 32;

function readU64(bytes: Uint8Array, offset: number): number {
  const low =
    (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>> 0;
  const high =
    (bytes[offset + 4]! | (bytes[offset + 5]! << 8) | (bytes[offset + 6]! << 16) | (bytes[offset + 7]! << 24)) >>> 0;
  return high * TWO_32 + low;
}

/** Takes a byte stream in pieces of any size and gives the messages in it, each as its list of frames. */
export class FrameSplitter {
  readonly #limits: Limits;
  readonly #onMessage: (frames: Uint8Array[]) => void;
  /** Prelude bytes of a message whose prelude is split over chunks. */
  #prelude: Uint8Array | undefined;
  #preludeFilled = 0;
  /** Set once the prelude is complete. */
  #lengths: number[] | undefined;
  #frames: Uint8Array[] = [];
  /** The frame that is being filled over several chunks. */
  #partial: Uint8Array | undefined;
  #partialFilled = 0;

  constructor(onMessage: (frames: Uint8Array[]) => void, limits: Limits = DEFAULT_LIMITS) {
    this.#onMessage = onMessage;
    this.#limits = limits;
  }

  /** True between two messages: an EOF now loses nothing. */
  get idle(): boolean {
    return this.#prelude === undefined && this.#lengths === undefined;
  }

  /**
   * Frames given to the callback are views of `chunk` wherever a frame lies in one chunk.
   *
   * @throws {ProtocolError} where the stream breaks a limit or is no message; the stream is then unusable.
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    for (;;) {
      if (this.#lengths === undefined) {
        at = this.#readPrelude(chunk, at);
        if (this.#lengths === undefined) return;
      }
      at = this.#readFrames(chunk, at);
      if (this.#frames.length < this.#lengths.length) return;
      const frames = this.#frames;
      this.#frames = [];
      this.#lengths = undefined;
      this.#onMessage(frames);
    }
  }

  #readPrelude(chunk: Uint8Array, start: number): number {
    const available = chunk.byteLength - start;
    if (this.#prelude === undefined) {
      if (available >= 16) {
        const nframes = this.#checkCount(readU64(chunk, start + 8));
        const size = 16 + 8 * nframes;
        if (available >= size) {
          this.#setLengths(chunk, start + 16, nframes);
          return start + size;
        }
        this.#prelude = new Uint8Array(size);
      } else {
        if (available === 0) return start;
        this.#prelude = new Uint8Array(16);
      }
      this.#preludeFilled = 0;
    }
    return this.#fillPrelude(this.#prelude, chunk, start);
  }

  #fillPrelude(prelude: Uint8Array, chunk: Uint8Array, start: number): number {
    const take = Math.min(prelude.byteLength - this.#preludeFilled, chunk.byteLength - start);
    prelude.set(chunk.subarray(start, start + take), this.#preludeFilled);
    this.#preludeFilled += take;
    const at = start + take;
    if (this.#preludeFilled < prelude.byteLength) return at;
    const nframes = this.#checkCount(readU64(prelude, 8));
    const size = 16 + 8 * nframes;
    if (prelude.byteLength === size) {
      this.#setLengths(prelude, 16, nframes);
      this.#prelude = undefined;
      return at;
    }
    const grown = new Uint8Array(size);
    grown.set(prelude);
    this.#prelude = grown;
    return this.#fillPrelude(grown, chunk, at);
  }

  #checkCount(nframes: number): number {
    if (nframes < 1) throw new ProtocolError("a message has at least one frame, this one says it has none");
    if (nframes > this.#limits.maxFrames) {
      throw new ProtocolError(`a message of ${nframes} frames is over the limit of ${this.#limits.maxFrames}`);
    }
    return nframes;
  }

  #setLengths(bytes: Uint8Array, offset: number, nframes: number): void {
    const lengths: number[] = [];
    let total = 0;
    for (let i = 0; i < nframes; i++) {
      const length = readU64(bytes, offset + 8 * i);
      if (length > this.#limits.maxFrameBytes) {
        throw new ProtocolError(`a frame of ${length} bytes is over the limit of ${this.#limits.maxFrameBytes}`);
      }
      total += length;
      lengths.push(length);
    }
    if (total > this.#limits.maxMessageBytes) {
      throw new ProtocolError(`a message of ${total} bytes is over the limit of ${this.#limits.maxMessageBytes}`);
    }
    this.#lengths = lengths;
  }

  #readFrames(chunk: Uint8Array, start: number): number {
    const lengths = this.#lengths as number[];
    let at = start;
    while (this.#frames.length < lengths.length) {
      const length = lengths[this.#frames.length]!;
      if (this.#partial !== undefined) {
        at = this.#fillPartial(this.#partial, length, chunk, at);
        if (this.#partialFilled < length) return at;
        this.#frames.push(this.#partial);
        this.#partial = undefined;
      } else if (chunk.byteLength - at >= length) {
        this.#frames.push(chunk.subarray(at, at + length));
        at += length;
      } else {
        if (at === chunk.byteLength) return at;
        this.#partial = Buffer.allocUnsafeSlow(Math.min(length, FIRST_STEP));
        this.#partialFilled = 0;
      }
    }
    return at;
  }

  #fillPartial(partial: Uint8Array, length: number, chunk: Uint8Array, start: number): number {
    const take = Math.min(length - this.#partialFilled, chunk.byteLength - start);
    const filled = this.#partialFilled + take;
    let target = partial;
    if (filled > partial.byteLength) {
      target = Buffer.allocUnsafeSlow(Math.min(length, Math.max(filled, partial.byteLength * STEP_FACTOR)));
      target.set(partial.subarray(0, this.#partialFilled));
      this.#partial = target;
    }
    target.set(chunk.subarray(start, start + take), this.#partialFilled);
    this.#partialFilled = filled;
    return start + take;
  }
}

/** Bytes of one message on the wire. */
export function framedLength(frames: readonly Uint8Array[]): number {
  let n = 16 + 8 * frames.length;
  for (const frame of frames) n += frame.byteLength;
  return n;
}

/** One message as the buffers to write, in order: small frames are joined, large ones are given as they are. */
export function joinFrames(frames: readonly Uint8Array[]): Uint8Array[] {
  let small = 16 + 8 * frames.length;
  let total = small;
  for (const frame of frames) {
    total += frame.byteLength;
    if (frame.byteLength < COPY_BELOW) small += frame.byteLength;
  }
  const joined = Buffer.allocUnsafe(small);
  writeU64(joined, total - 8, 0);
  writeU64(joined, frames.length, 8);
  let at = 16;
  for (const frame of frames) {
    writeU64(joined, frame.byteLength, at);
    at += 8;
  }
  const out: Uint8Array[] = [];
  let from = 0;
  for (const frame of frames) {
    if (frame.byteLength < COPY_BELOW) {
      joined.set(frame, at);
      at += frame.byteLength;
    } else {
      if (at > from) out.push(joined.subarray(from, at));
      out.push(frame);
      from = at;
    }
  }
  if (at > from) out.push(joined.subarray(from, at));
  return out;
}

function writeU64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value % TWO_32, offset);
  buffer.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}
