/** Every captured message of a stock cluster decodes to what an independent decoder saw, and encodes back. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  decodeMessage,
  decodeSubHeader,
  encodeMessage,
  Float,
  FrameSplitter,
  joinFrames,
  type Message,
  Pickled,
  PyEnum,
  Serialized,
  type Value,
} from "../src/index.ts";
import { hex } from "./support/oracle.ts";
import { random } from "./support/random.ts";

const FOLDER = new URL("./fixtures/", import.meta.url);
const NAMES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".bin"))
  .map((name) => name.slice(0, -4));

interface SubMessageFixture {
  tag: "__Serialized__" | "__Pickled__";
  offset: number;
  header: unknown;
  frames: { index: number; length: number; sha256: string }[];
}
interface Fixture {
  message: unknown;
  nframes: number;
  frame_lengths: number[];
  subs: SubMessageFixture[];
}

function load(name: string): { bytes: Buffer; fixture: Fixture } {
  const fixture = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8")) as Fixture;
  return { bytes: readFileSync(new URL(`${name}.bin`, FOLDER)), fixture };
}

function split(bytes: Uint8Array, cuts: Iterable<number> = []): Uint8Array[][] {
  const messages: Uint8Array[][] = [];
  const splitter = new FrameSplitter((frames) => messages.push(frames));
  let from = 0;
  for (const cut of [...cuts, bytes.byteLength]) {
    // a copy: a socket's chunks share no memory either
    splitter.push(Uint8Array.prototype.slice.call(bytes, from, cut));
    from = cut;
  }
  expect(splitter.idle).toBe(true);
  return messages;
}

/** A decoded value in the JSON form of capture.py. Sub-messages become placeholders again, in order of appearance. */
function jsonable(value: Value | undefined, place: (sub: Serialized | Pickled) => unknown): unknown {
  const inner = (item: Value | undefined): unknown => jsonable(item, place);
  if (typeof value === "number") return Number.isFinite(value) ? value : { $float: pythonSpecial(value) };
  if (typeof value === "bigint") return { $int: String(value) };
  if (value instanceof Float) return { $float: value.value };
  if (value instanceof Uint8Array) {
    if (value.byteLength <= 2048) return { $bytes: hex(value), length: value.byteLength };
    return { $bytes_head: hex(value.subarray(0, 64)), length: value.byteLength, sha256: sha256(value) };
  }
  if (Array.isArray(value)) return value.map(inner);
  if (value instanceof Set) return { __Set__: true, "as-list": [...value].map(inner) };
  if (value instanceof PyEnum) {
    return { __Enum__: true, name: value.name, __module__: value.module, __name__: value.className };
  }
  if (value instanceof Serialized || value instanceof Pickled) return place(value);
  if (value instanceof Map) {
    if ([...value.keys()].every((key) => typeof key === "string")) {
      return Object.fromEntries([...value].map(([key, item]) => [key, inner(item)]));
    }
    return { $map: [...value].map(([key, item]) => [inner(key), inner(item)]) };
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value as Message).map(([key, item]) => [key, inner(item)]));
}

function pythonSpecial(value: number): string {
  if (Number.isNaN(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

/** Floats as numbers, so that Python's and JavaScript's ways to write 1e+22 compare equal. */
function normalised(json: unknown): unknown {
  return JSON.parse(JSON.stringify(json), (_, item: unknown) => {
    if (typeof item !== "object" || item === null || !("$float" in item)) return item;
    const number = Number(item.$float);
    return { $float: Number.isFinite(number) ? number : item.$float };
  });
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function noSubs(): unknown {
  throw new Error("a sub-message in a sub-header");
}

describe.each(NAMES)("%s", (name) => {
  const { bytes, fixture } = load(name);

  it("decodes to what stock sent, sub-headers and payload frames too", () => {
    const [frames] = split(bytes);
    expect(frames!.map((frame) => frame.byteLength)).toEqual(fixture.frame_lengths);
    const subs = new Map(fixture.subs.map((sub) => [sub.offset, sub]));
    const opened = new Set<number>();
    const json = jsonable(decodeMessage(frames!), (sub) => {
      const index = frames!.findIndex((frame) => frame === sub.header);
      const expected = subs.get(index)!;
      opened.add(index);
      expect(expected.tag).toBe(sub instanceof Serialized ? "__Serialized__" : "__Pickled__");
      expect(normalised(jsonable(decodeSubHeader(sub.header), noSubs))).toEqual(normalised(expected.header));
      expect(sub.frames.map(sha256)).toEqual(expected.frames.map((frame) => frame.sha256));
      return { [expected.tag]: index };
    });
    expect(normalised(json)).toEqual(normalised(fixture.message));
    expect([...opened].sort((a, b) => a - b)).toEqual(fixture.subs.map((sub) => sub.offset));
  });

  it("encodes back to the same frames", () => {
    const [frames] = split(bytes);
    const again = encodeMessage(decodeMessage(frames!));
    const used = new Set([0, ...fixture.subs.flatMap((sub) => [sub.offset, ...sub.frames.map((f) => f.index)])]);
    if (used.size === frames!.length) {
      expect(again.map(hex)).toEqual(frames!.map(hex));
    } else {
      // Stock left frames behind to which no placeholder points; ours are packed, so that the indices differ.
      expect(again.slice(1).map(hex)).toEqual(frames!.filter((_, i) => i > 0 && used.has(i)).map(hex));
      expect(decodeMessage(again)).toEqual(decodeMessage(frames!));
    }
    const joined = joinFrames(again);
    expect(split(Buffer.concat(joined))[0]!.map(hex)).toEqual(again.map(hex));
  });

  it("decodes alike however the stream is cut", () => {
    const whole = split(bytes)[0]!.map(hex);
    const everyByte = Array.from({ length: bytes.byteLength - 1 }, (_, i) => i + 1);
    expect(split(bytes, everyByte).map((frames) => frames.map(hex))).toEqual([whole]);
    const next = random(bytes.byteLength);
    for (let round = 0; round < 20; round++) {
      const twice = Buffer.concat([bytes, bytes]);
      const cuts = Array.from({ length: 1 + (next() % 12) }, () => next() % twice.byteLength).sort((a, b) => a - b);
      expect(split(twice, cuts).map((frames) => frames.map(hex))).toEqual([whole, whole]);
    }
  });
});

it("covers all captured messages", () => {
  expect(NAMES.length).toBeGreaterThan(60);
});
