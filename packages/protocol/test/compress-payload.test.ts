import { expect, test } from "vitest";
import { compressPayload, encode, logicalFrames, ProtocolError, Serialized } from "../src/index.ts";

const zeros = Buffer.alloc(100_000);
const noise = Buffer.from(Uint8Array.from({ length: 100_000 }, (_, i) => Math.imul(i * i + 1, 2654435761) >>> 13));
const value = (compression: readonly (string | null)[], ...frames: Uint8Array[]): Serialized =>
  new Serialized(encode({ serializer: "dask", compression, "num-sub-frames": frames.length }), frames);

test.each(["lz4", "zlib"])("%s where it pays", async (name) => {
  const small = Buffer.alloc(100);
  const packed = (await compressPayload(value([null, null, null], zeros, noise, small), name)) as Serialized;
  expect(packed.frames.map((frame) => frame.byteLength < 5000)).toEqual([true, false, true]);
  expect(packed.frames[1]).toBe(noise);
  expect(packed.frames[2]).toBe(small);
  const [first, second, third] = logicalFrames(packed);
  expect([zeros.equals(first!), noise.equals(second!), small.equals(third!)]).toEqual([true, true, true]);
  // What is compressed already stays so.
  const again = await compressPayload(packed, name);
  expect(again).toBe(packed);
});

test("what cannot be compressed stays the value it is", async () => {
  const plain = value([null], noise);
  expect(await compressPayload(plain, "lz4")).toBe(plain);
  expect(await compressPayload(plain, null)).toBe(plain);
  expect(await compressPayload("text", "lz4")).toBe("text");
  const silent = new Serialized(encode({ serializer: "msgpack", "num-sub-frames": 1 }), [zeros]);
  expect(await compressPayload(silent, "lz4")).toBe(silent);
  await expect(compressPayload(value([null], zeros), "snappy")).rejects.toThrow(ProtocolError);
});
