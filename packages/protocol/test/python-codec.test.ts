/** Our codec against distributed.protocol.core's `dumps` and `loads`, both ways, over generated values. */
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  decodeMessage,
  encodeMessage,
  openBytes,
  pickle,
  pickled,
  Serialized,
  serializedBytes,
  serializedMsgpack,
  serializedPickle,
  type Value,
} from "../src/index.ts";
import { hex, Oracle, tag, type Tagged, unhex } from "./support/oracle.ts";
import { anyValue, keyValue } from "./support/values.ts";

let python: Oracle;
beforeAll(() => {
  python = new Oracle();
});
afterAll(() => python.close());

const SEED = 20260801;

/** Sets have no order, and so their items no place. */
function canonical(tagged: Tagged): unknown {
  const [kind, arg] = tagged;
  if (kind === "tuple") return [kind, arg.map(canonical)];
  if (kind === "set") return [kind, arg.map((item) => JSON.stringify(canonical(item))).sort()];
  if (kind === "dict") return [kind, arg.map(([key, item]) => [canonical(key), canonical(item)])];
  if (kind === "serialize" || kind === "to-pickle") return [kind, canonical(arg)];
  return tagged;
}

function message(value: Value, i: number): Value {
  return i % 3 === 0 ? value : i % 3 === 1 ? { op: "x", value } : [{ op: "a" }, { op: "b", value }];
}

it("Python reads what we write", async () => {
  const values = fc.sample(anyValue, { numRuns: 600, seed: SEED }).map(message);
  const got = await python.ask<Tagged[]>(
    "loads",
    values.map((value) => encodeMessage(value).map(hex)),
  );
  for (const [i, value] of values.entries()) expect(canonical(got[i]!)).toEqual(canonical(tag(value)));
});

it("we read what Python writes, and write it again byte for byte", async () => {
  const values = fc.sample(anyValue, { numRuns: 600, seed: SEED + 1 }).map(message);
  const written = await python.ask<string[][]>(
    "dumps",
    values.map((value) => [tag(value), null]),
  );
  for (const [i, frames] of written.entries()) {
    const decoded = decodeMessage(frames.map(unhex));
    expect(canonical(tag(decoded))).toEqual(canonical(tag(values[i])));
    expect(encodeMessage(decoded).map(hex)).toEqual(frames);
  }
});

it("Python opens the sub-messages that we make", async () => {
  const keys = fc.sample(keyValue, { numRuns: 60, seed: SEED + 2 });
  const values = keys.map((key, i): Value => {
    const bytes = Buffer.from(`payload ${i}`);
    const subs = [serializedBytes(bytes), serializedMsgpack(key), serializedPickle(pickle(key)), pickled(pickle(key))];
    return { op: "x", data: new Map<Value, Value>([[key, subs[i % 4]!]]), list: [1, [subs[(i + 1) % 4]!]] };
  });
  const got = await python.ask<Tagged[]>(
    "loads",
    values.map((value) => encodeMessage(value).map(hex)),
  );
  for (const [i, key] of keys.entries()) {
    const opened = [tag(Buffer.from(`payload ${i}`)), tag(key), tag(key), tag(key)];
    expect(got[i]).toEqual([
      "dict",
      [
        [tag("op"), tag("x")],
        [tag("data"), ["dict", [[tag(key), opened[i % 4]]]]],
        [tag("list"), ["tuple", [tag(1), ["tuple", [opened[(i + 1) % 4]]]]]],
      ],
    ]);
  }
});

it.each([null, "lz4", "zlib"])("we open the bytes that Python serializes, compression %s", async (compression) => {
  const lengths = [0, 1, 9_999, 10_000, 50_000];
  const payloads = lengths.map((length): Value => Buffer.alloc(length, "ab"));
  const values: Value[] = [
    ...payloads,
    payloads,
    new Map<Value, Value>([
      [["k", 1], payloads[4]!],
      ["e", payloads[0]!],
    ]),
  ];
  const items = values.map((value) => [["dict", [[tag("data"), ["serialize", tag(value)]]]], compression]);
  const written = await python.ask<string[][]>("dumps", items);
  for (const [i, frames] of written.entries()) {
    const { data } = decodeMessage(frames.map(unhex)) as { data: Serialized };
    expect(tag(openBytes(data))).toEqual(tag(values[i]));
    if (compression !== null && i === 4) expect(data.nbytes).toBeLessThan(2_000);
  }
});

it("messages with anything that Python may hold pass through unchanged", async () => {
  const written = await python.ask<string[][]>("forwarded", null);
  let subs = 0;
  const again = written.map((frames) => {
    const decoded = decodeMessage(frames.map(unhex));
    tag(enumless(decoded), () => {
      subs++;
      return ["none"];
    });
    return encodeMessage(decoded).map(hex);
  });
  expect(await python.ask("same_as_forwarded", again)).toEqual(written.map(() => true));
  expect(subs).toBe(15);
});

function enumless(value: Value): Value {
  return Array.isArray(value) ? value : { ...(value as Record<string, Value>), default: null };
}
