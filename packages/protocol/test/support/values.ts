/** Values for property tests: everything that one message can hold, without sub-messages. */
import * as fc from "fast-check";
import { float, type Value } from "../../src/index.ts";

const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.string({ minLength: 30, maxLength: 80 }),
  fc.constantFrom("key", "x-0123456789abcdef", "é".repeat(40), "\ufffd", "\u{1d49c}", "a".repeat(70_000)),
);
const int = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc
    .bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n })
    .map((value) => (value >= -(2n ** 53n) + 1n && value <= 2n ** 53n - 1n ? Number(value) : value)),
  fc.constantFrom(0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, -1, -32, -33, -128, -129),
  fc.constantFrom(-32768, -32769, -(2 ** 31), -(2 ** 31) - 1),
);
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.constantFrom(new Uint8Array(255), new Uint8Array(256), new Uint8Array(65536)),
);
/** Without nan: it is equal to nothing, not even as a dict's key. */
const number = fc.double({ noNaN: true }).map((value) => (Object.is(value, -0) ? value : float(value)));

export const keyValue: fc.Arbitrary<Value> = fc.letrec<{ key: Value }>((tie) => ({
  key: fc.oneof({ maxDepth: 2 }, text, fc.integer(), bytes, fc.array(tie("key"), { maxLength: 3 })),
})).key;

/** Python's `==` sees 1 and True, or 0.0 and -0.0, as one key: keys here are of types that never meet so. */
function keyed<T>(entries: [Value, T][]): [Value, T][] {
  const seen = new Set<string>();
  return entries.filter(([key]) => {
    const id = idOf(key);
    if (seen.has(id)) return false;
    seen.add(id);
    return true;
  });
}

function idOf(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(idOf).join(",")}]`;
  if (value instanceof Uint8Array) return `b${Buffer.from(value).toString("hex")}`;
  return JSON.stringify(value);
}

export const anyValue: fc.Arbitrary<Value> = fc.letrec<{ value: Value }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "medium" },
    text,
    int,
    number,
    bytes,
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.array(fc.tuple(keyValue, tie("value")), { maxLength: 20 }).map((entries) => new Map(keyed(entries))),
    fc.array(keyValue, { maxLength: 5 }).map((keys) => new Set(keyed(keys.map((key) => [key, 0])).map(([key]) => key))),
  ),
})).value;
