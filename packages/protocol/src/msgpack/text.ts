/** msgpack strings: UTF-8, most of it short ASCII, much of it seen before. */
import { ProtocolError } from "../errors.ts";

interface Interned {
  readonly bytes: Uint8Array;
  readonly text: string;
}

const SLOTS = 4096;
const MAX_LENGTH = 40;
/** Field names, addresses and other short strings that come again and again, by a cheap hash of their bytes. */
const interned: (Interned | undefined)[] = Array.from({ length: SLOTS }, () => undefined);
/** The hash that missed last in each slot: a string is kept from its second time on, so that keys do not wash it out. */
const missed = new Int32Array(SLOTS);

/**
 * The text of `bytes[from, to)`.
 *
 * @throws {ProtocolError} where it is no UTF-8.
 */
export function readText(bytes: Buffer, from: number, to: number): string {
  const length = to - from;
  if (length > MAX_LENGTH) return readUtf8(bytes, from, to);
  let hash = length;
  let all = 0;
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!;
    all |= byte;
    hash = (Math.imul(hash, 31) + byte) | 0;
  }
  const slot = (hash ^ (hash >>> 15)) & (SLOTS - 1);
  const entry = interned[slot];
  if (entry !== undefined && entry.bytes.length === length) {
    const known = entry.bytes;
    let i = 0;
    while (i < length && known[i] === bytes[from + i]) i++;
    if (i === length) return entry.text;
  }
  const text = all < 0x80 ? bytes.toString("latin1", from, to) : readUtf8(bytes, from, to);
  if (missed[slot] === hash) interned[slot] = { bytes: Uint8Array.prototype.slice.call(bytes, from, to), text };
  else missed[slot] = hash;
  return text;
}

function readUtf8(bytes: Buffer, from: number, to: number): string {
  const text = bytes.toString("utf8", from, to);
  // A replacement character is either in the text itself or the mark of bytes that are no UTF-8.
  if (text.includes("\ufffd") && !bytes.subarray(from, to).equals(Buffer.from(text))) {
    throw new ProtocolError("msgpack: a string is not valid UTF-8");
  }
  return text;
}
