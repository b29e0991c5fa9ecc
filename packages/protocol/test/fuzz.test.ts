/** Broken bytes: nothing but a ProtocolError may come out of splitter and decoder, quickly, and at little memory. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import {
  DEFAULT_LIMITS,
  decodeMessage,
  decompressFrame,
  encode,
  encodeMessage,
  FrameSplitter,
  logicalFrames,
  openBytes,
  Pickled,
  ProtocolError,
  pickled,
  Serialized,
  type Value,
} from "../src/index.ts";
import { random } from "./support/random.ts";

const FOLDER = new URL("./fixtures/", import.meta.url);
const SEEDS = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".bin"))
  .map((name) => readFileSync(new URL(name, FOLDER)))
  .filter((bytes) => bytes.byteLength < 8192);
const LIMITS = { ...DEFAULT_LIMITS, maxFrameBytes: 64 * 2 ** 20 };
const ROUNDS = 120_000;

type Next = () => number;
type Mutation = (bytes: Buffer, next: Next) => Buffer;

const INTERESTING = [0, 1, 0x7f, 0x80, 0x8f, 0xa0, 0xc1, 0xc4, 0xc6, 0xd4, 0xdb, 0xdd, 0xdf, 0xff];

const MUTATIONS: Mutation[] = [
  (bytes, next) => {
    bytes[next() % bytes.length]! ^= 1 << (next() & 7);
    return bytes;
  },
  (bytes, next) => {
    bytes[next() % bytes.length] = INTERESTING[next() % INTERESTING.length]!;
    return bytes;
  },
  (bytes, next) => bytes.subarray(0, next() % bytes.length),
  // a length field of the prelude
  (bytes, next) => {
    const frames = Math.min(Number(bytes.readBigUInt64LE(8)), 8);
    const field = 8 * (1 + (next() % (frames + 1)));
    const size = [next() % 300, next(), 2 ** 40 + next(), 0][next() % 4]!;
    if (field + 8 <= bytes.length) bytes.writeBigUInt64LE(BigInt(size), field);
    return bytes;
  },
  // a lying length of an array, map, text or bytes
  (bytes, next) => {
    const at = next() % bytes.length;
    bytes[at] = [0xc6, 0xdb, 0xdd, 0xdf, 0xdc, 0xde][next() % 6]!;
    if (at + 5 <= bytes.length) bytes.writeUInt32BE(next(), at + 1);
    return bytes;
  },
  // a piece of another message
  (bytes, next) => {
    const other = SEEDS[next() % SEEDS.length]!;
    const from = next() % other.length;
    other.copy(bytes, next() % bytes.length, from, from + 1 + (next() % 64));
    return bytes;
  },
  // a piece cut out
  (bytes, next) => {
    const from = next() % bytes.length;
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + (next() % 16))]);
  },
];

function mutated(next: Next): Buffer {
  let bytes: Buffer = Buffer.from(SEEDS[next() % SEEDS.length]!);
  for (let n = 1 + (next() % 3); n > 0 && bytes.length >= 16; n--) {
    bytes = MUTATIONS[next() % MUTATIONS.length]!(bytes, next);
  }
  return bytes;
}

function openAll(value: Value | undefined, depth = 0): void {
  if (value instanceof Serialized) {
    openBytes(value, LIMITS);
    logicalFrames(value, LIMITS);
  } else if (value instanceof Pickled || typeof value !== "object" || value === null || depth > 3) {
    return;
  } else if (Array.isArray(value)) {
    for (const item of value) openAll(item, depth + 1);
  } else if (value instanceof Map) {
    for (const item of value.values()) openAll(item, depth + 1);
  } else {
    for (const item of Object.values(value)) openAll(item as Value, depth + 1);
  }
}

/** @returns whether the bytes were refused. */
function refused(run: () => void, seed: number): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof ProtocolError) return true;
    throw new Error(`seed ${seed}`, { cause: error });
  }
}

it(`${ROUNDS} broken messages`, () => {
  const rssBefore = process.memoryUsage().rss;
  const counts = { refused: 0, decoded: 0, slowest: 0 };
  for (let seed = 0; seed < ROUNDS; seed++) {
    const next = random(seed);
    const bytes = mutated(next);
    const start = performance.now();
    const splitter = new FrameSplitter((frames) => {
      const message = decodeMessage(frames, LIMITS);
      counts.decoded++;
      openAll(message);
      encodeMessage(message);
    }, LIMITS);
    const cut = seed % 4 === 0 ? next() % (bytes.length + 1) : bytes.length;
    const isRefused = refused(() => {
      splitter.push(bytes.subarray(0, cut));
      splitter.push(bytes.subarray(cut));
    }, seed);
    if (isRefused) counts.refused++;
    counts.slowest = Math.max(counts.slowest, performance.now() - start);
  }
  // The mutations do both: some messages survive, many do not.
  expect(counts.refused).toBeGreaterThan(ROUNDS / 5);
  expect(counts.decoded).toBeGreaterThan(ROUNDS / 10);
  expect(counts.slowest).toBeLessThan(2000);
  expect(process.memoryUsage().rss - rssBefore).toBeLessThan(600 * 2 ** 20);
});

it("random bytes as documents and as packed frames", () => {
  for (let seed = 0; seed < 20_000; seed++) {
    const next = random(seed);
    const bytes = Buffer.from(Array.from({ length: 1 + (next() % 60) }, () => next()));
    refused(() => decodeMessage([bytes], LIMITS), seed);
    refused(() => decompressFrame(seed % 2 === 0 ? "lz4" : "zlib", bytes, LIMITS), seed);
  }
});

it("a document that nests deeper than the limit is refused, not followed", () => {
  for (const byte of [0x91, 0x81]) {
    const deep = Buffer.alloc(2_000_000, byte);
    expect(() => decodeMessage([deep])).toThrow(/nested deeper than 512/);
  }
  const header = Buffer.concat([Buffer.from([0x82, 0xa1, 0x78]), Buffer.alloc(2_000_000, 0x91)]);
  expect(() => decodeMessage([encode({ a: placeholder(1) }), header])).toThrow(ProtocolError);
});

it("lengths of billions allocate nothing", () => {
  const before = process.memoryUsage();
  for (const tag of [0xc6, 0xdb, 0xdd, 0xdf]) {
    for (const inner of [[], [0x91], [0x81, 0xa1, 0x61]]) {
      const bytes = Buffer.from([...inner, tag, 0xff, 0xff, 0xff, 0xff, 0x01, 0x02]);
      expect(() => decodeMessage([bytes])).toThrow(ProtocolError);
    }
  }
  expect(process.memoryUsage().rss - before.rss).toBeLessThan(64 * 2 ** 20);
});

it("many placeholders for one large sub-message are refused at once", () => {
  const frames = encodeMessage({ x: pickled(Buffer.alloc(1000), Array(50_000).fill(Buffer.alloc(1)) as Uint8Array[]) });
  const copies = encode(Array.from({ length: 100_000 }, () => placeholder(1)));
  const start = performance.now();
  expect(() => decodeMessage([copies, ...frames.slice(1)])).toThrow(/points back/);
  expect(performance.now() - start).toBeLessThan(1000);
});

it.each([
  ["a placeholder beyond the frames", [encode({ a: placeholder(3) }), Buffer.from([0x80])]],
  ["a placeholder in a message of one frame", [encode({ a: placeholder(1) })]],
  ["a sub-header without num-sub-frames", [encode({ a: placeholder(1) }), Buffer.from([0x80])]],
  ["a sub-header that is no map", [encode({ a: placeholder(1) }), Buffer.from([0x90])]],
  ["an empty sub-header", [encode({ a: placeholder(1) }), Buffer.alloc(0)]],
  ["more frames than there are", [encode({ a: placeholder(1) }), encode({ "num-sub-frames": 1 })]],
  ["a negative number of frames", [encode({ a: placeholder(1) }), encode({ "num-sub-frames": -1 })]],
  ["a set without its list", [encode({ a: new Map<Value, Value>([["__Set__", true]]) })]],
  ["bytes after the document", [Buffer.from([0x80, 0x80])]],
  ["an extension type", [Buffer.from([0xd4, 0x01, 0x02])]],
  ["a string that is no UTF-8", [Buffer.from([0xa1, 0xff])]],
  ["a string that ends inside a character", [Buffer.from([0xa3, 0xf0, 0x9f, 0x98])]],
  ["an empty document", [Buffer.alloc(0)]],
  ["no frames", []],
])("%s is refused", (_, frames) => {
  expect(() => decodeMessage(frames)).toThrow(ProtocolError);
});

function placeholder(frame: number): Value {
  return new Map<Value, Value>([["__Pickled__", frame]]);
}
