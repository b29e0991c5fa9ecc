/** A few megabytes do not unpack to gigabytes. */
import { deflateSync } from "node:zlib";
import { compressSync } from "lz4-napi";
import { expect, test } from "vitest";
import { decodeMessage, DEFAULT_LIMITS, encode, logicalFrames, ProtocolError, Serialized } from "../src/index.ts";

const LIMITS = { ...DEFAULT_LIMITS, maxUnpackedBytes: 2 ** 20 };

function compressed(name: string, frames: readonly Uint8Array[]): Serialized {
  const header = {
    serializer: "dask",
    type: "bytes",
    compression: frames.map(() => name),
    "num-sub-frames": frames.length,
  };
  return new Serialized(encode(header), frames);
}

test.each([
  ["lz4", compressSync],
  ["zlib", deflateSync],
] as const)("frames of %s, one large or many small ones", (name, compress) => {
  const large = compress(Buffer.alloc(2 ** 20 + 1));
  expect(large.byteLength).toBeLessThan(10_000);
  expect(() => logicalFrames(compressed(name, [large]), LIMITS)).toThrow(ProtocolError);
  const small = compress(Buffer.alloc(2 ** 18));
  expect(logicalFrames(compressed(name, [small, small, small]), LIMITS).length).toBe(3);
  expect(() =>
    logicalFrames(
      compressed(
        name,
        Array.from({ length: 5 }, () => small),
      ),
      LIMITS,
    ),
  ).toThrow(/limit/);
});

/** `[[x, x, …]]` with a million times the byte. */
function document(byte: number): Uint8Array {
  const bytes = Buffer.alloc(6 + 1_000_000, byte);
  bytes.set([0x91, 0xdd], 0);
  bytes.writeUInt32BE(1_000_000, 2);
  return bytes;
}

test("documents of empty maps and lists", () => {
  const limits = { ...DEFAULT_LIMITS, maxUnpackedBytes: 10 * 2 ** 20 };
  for (const byte of [0x80, 0x90]) {
    expect(() => decodeMessage([document(byte)], limits)).toThrow(/take more than 10485760 bytes/);
  }
  expect(decodeMessage([document(0x01)], limits)).toHaveLength(1);
  // The next message begins anew.
  for (let i = 0; i < 3; i++) expect(decodeMessage([document(0x01)], limits)).toHaveLength(1);
});
