import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compressFrame, decompressFrame, ProtocolError } from "../src/index.ts";
import { hex, Oracle, unhex } from "./support/oracle.ts";
import { random } from "./support/random.ts";

let python: Oracle;
beforeAll(() => {
  python = new Oracle();
});
afterAll(() => python.close());

const NAMES = ["lz4", "zlib"] as const;

function samples(): Uint8Array[] {
  const next = random(3);
  const zeros = new Uint8Array(32_000);
  const letters = Uint8Array.from({ length: 120_000 }, () => 97 + (next() % 4));
  const numbers = new Uint8Array(Float64Array.from({ length: 20_000 }, (_, i) => i).buffer);
  return [zeros, letters, numbers, new Uint8Array(1_000_000)];
}

describe.each(NAMES)("%s", (name) => {
  it("is unpacked by Python, and unpacks what Python packed", async () => {
    const frames = samples();
    const ours = frames.map((frame) => compressFrame(name, frame));
    expect(ours.map((one) => one.compression)).toEqual(frames.map(() => name));
    const unpacked = await python.ask<string[]>(
      "decompress",
      ours.map((one) => [name, hex(one.bytes)]),
    );
    expect(unpacked).toEqual(frames.map(hex));

    const small = [new Uint8Array(0), Uint8Array.of(1), randomBytes(5000)];
    const packed = await python.ask<string[]>(
      "compress",
      [...frames, ...small].map((frame) => [name, hex(frame)]),
    );
    expect(packed.map((frame) => hex(decompressFrame(name, unhex(frame))))).toEqual([...frames, ...small].map(hex));
  });

  it("leaves alone what is small, large or random", () => {
    for (const frame of [new Uint8Array(9_999), randomBytes(200_000), randomBytes(20_000)]) {
      expect(compressFrame(name, frame)).toEqual({ compression: null, bytes: frame });
    }
    // well packed at the sampled places only
    const mixed = randomBytes(600_000);
    for (let i = 0; i < 5; i++) mixed.fill(0, i * 147_500, i * 147_500 + 10_000);
    expect(compressFrame(name, mixed).compression).toBeNull();
  });

  it("refuses broken bytes and sizes over the limit", () => {
    const { bytes } = compressFrame(name, samples()[1]!);
    expect(() => decompressFrame(name, bytes.subarray(0, bytes.byteLength - 10))).toThrow(ProtocolError);
    expect(() => decompressFrame(name, new Uint8Array(0))).toThrow(ProtocolError);
    expect(() => decompressFrame(name, randomBytes(100))).toThrow(ProtocolError);
    expect(() => decompressFrame(name, bytes, { maxFrameBytes: 119_999 })).toThrow(/over the limit of 119999/);
    expect(decompressFrame(name, bytes, { maxFrameBytes: 120_000 }).byteLength).toBe(120_000);
  });
});

it("a lying lz4 size allocates nothing and is an error", () => {
  const bytes = Buffer.from(compressFrame("lz4", samples()[0]!).bytes);
  for (const size of [0, 1, 31_999, 32_001, 2 ** 30, 2 ** 31, 2 ** 32 - 1]) {
    bytes.writeUInt32LE(size, 0);
    expect(() => decompressFrame("lz4", bytes), String(size)).toThrow(ProtocolError);
  }
  bytes.writeUInt32LE(2 ** 30, 0);
  expect(() => decompressFrame("lz4", bytes)).toThrow(/cannot unpack to 1073741824/);
});

it("other names are refused by name", () => {
  expect(() => decompressFrame("snappy", new Uint8Array(9))).toThrow(/"snappy" is not supported/);
  expect(() => compressFrame("zstd", new Uint8Array(9))).toThrow(ProtocolError);
  expect(decompressFrame(null, Uint8Array.of(1))).toEqual(Uint8Array.of(1));
});
