/**
 * Where run_specs are written: many in one buffer, each a whole sub-header of a `__Pickled__` (wire-protocol.md §5.3), so
 * that it needs no further copy.
 */
import { Pickled } from "@dask-ts/protocol";

const HEAD = Buffer.from("\x83\xabpickled-obj", "latin1");
/** bin16: its opcode and length. */
const LENGTH = 3;
const COMPRESSION = Buffer.from("\xabcompression", "latin1");
const FRAMES = Buffer.from("\xaenum-sub-frames", "latin1");
const TAIL = Buffer.concat([COMPRESSION, Buffer.from([0x90]), FRAMES, Buffer.from([0])]);
/** TAIL, the longer forms of its two counts, and the two bytes that bin32 has more than bin16. */
const TAIL_ROOM = TAIL.length + 10;
const NO_FRAMES: readonly Uint8Array[] = [];

export class RunSpecBytes {
  readonly #slabLength: number;
  /** Where the run_spec under way starts. */
  #start = 0;
  /** The buffer to come back to after a large run_spec, which has one of its own. */
  #slab: Buffer | undefined;
  #slabAt = 0;
  /** The current buffer, and where to write next. */
  bytes: Buffer;
  at = 0;

  /** @param slabLength one run_spec that lives on keeps so many bytes. */
  constructor(slabLength: number) {
    this.#slabLength = slabLength;
    this.bytes = Buffer.allocUnsafeSlow(slabLength);
  }

  /** Bytes of the run_spec under way. */
  get length(): number {
    return this.at - this.#start;
  }

  /** Makes room for so many bytes at `at`; `bytes` and `at` may be others then. */
  room(n: number): void {
    if (this.at + n + TAIL_ROOM <= this.bytes.length) return;
    const written = this.length;
    const needed = written + n + TAIL_ROOM;
    const large = needed > this.#slabLength / 4;
    if (large && this.#slab === undefined) {
      this.#slab = this.bytes;
      this.#slabAt = this.#start;
    }
    const next = Buffer.allocUnsafeSlow(large ? needed + (needed >> 1) : this.#slabLength);
    this.bytes.copy(next, 0, this.#start, this.at);
    this.bytes = next;
    this.#start = 0;
    this.at = written;
  }

  /** Starts a run_spec, and drops one that was not ended. The bytes of its pickle come next. */
  begin(): void {
    this.#leaveLarge();
    this.at = this.#start;
    this.room(HEAD.length + LENGTH);
    const { bytes, at } = this;
    for (let i = 0; i < HEAD.length; i++) bytes[at + i] = HEAD[i] as number;
    this.at += HEAD.length + LENGTH;
  }

  /** Ends it. @param frames its out-of-band buffers. */
  end(frames: readonly Uint8Array[]): Pickled {
    this.room(frames.length);
    const { bytes } = this;
    const lengthAt = this.#start + HEAD.length;
    const length = this.at - lengthAt - LENGTH;
    if (length < 0x10000) {
      bytes[lengthAt] = 0xc5;
      bytes[lengthAt + 1] = length >>> 8;
      bytes[lengthAt + 2] = length & 0xff;
    } else {
      bytes.copyWithin(lengthAt + LENGTH + 2, lengthAt + LENGTH, this.at);
      bytes[lengthAt] = 0xc6;
      bytes.writeUInt32BE(length, lengthAt + 1);
      this.at += 2;
    }
    if (frames.length === 0) this.#put(TAIL);
    else this.#putTail(frames.length);
    const header = bytes.subarray(this.#start, this.at);
    this.#start = this.at;
    this.#leaveLarge();
    return new Pickled(header, frames.length === 0 ? NO_FRAMES : frames);
  }

  #leaveLarge(): void {
    if (this.#slab === undefined) return;
    this.bytes = this.#slab;
    this.at = this.#start = this.#slabAt;
    this.#slab = undefined;
  }

  #put(part: Buffer): void {
    const { bytes, at } = this;
    for (let i = 0; i < part.length; i++) bytes[at + i] = part[i] as number;
    this.at += part.length;
  }

  #putTail(frames: number): void {
    const { bytes } = this;
    this.#put(COMPRESSION);
    if (frames < 16) bytes[this.at++] = 0x90 | frames;
    else {
      bytes[this.at] = 0xdd;
      this.at = bytes.writeUInt32BE(frames, this.at + 1);
    }
    bytes.fill(0xc0, this.at, this.at + frames);
    this.at += frames;
    this.#put(FRAMES);
    if (frames < 0x80) bytes[this.at++] = frames;
    else {
      bytes[this.at] = 0xce;
      this.at = bytes.writeUInt32BE(frames, this.at + 1);
    }
  }
}
