import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pickle, PyEnum, PyList, pythonRepr, serializedBytes, type Value } from "../../src/index.ts";
import { hex, Oracle, tag, type Tagged } from "../support/oracle.ts";
import { anyValue } from "../support/values.ts";

let python: Oracle;
beforeAll(() => {
  python = new Oracle();
});
afterAll(() => python.close());

describe("pickle", () => {
  it("writes what pickle.loads reads", async () => {
    const values: Value[] = [
      ...fc.sample(anyValue, { numRuns: 400, seed: 7 }),
      2n ** 200n,
      2 ** 39,
      -(2 ** 39),
      -(2n ** 63n),
      -256n,
      NaN,
    ];
    const got = await python.ask<Tagged[]>(
      "pickles",
      values.map((value) => hex(pickle(value))),
    );
    expect(got.map(sorted)).toEqual(values.map((value) => sorted(tag(value))));
  });

  it("writes lists and messages", async () => {
    const got = await python.ask<Tagged[]>("pickles", [
      hex(pickle(new PyList([1, new PyList([])]))),
      hex(pickle({ a: 1, left: undefined })),
    ]);
    expect(got).toEqual([
      [
        "tuple",
        [
          ["int", "1"],
          ["tuple", []],
        ],
      ],
      [
        "dict",
        [
          [
            ["str", "a"],
            ["int", "1"],
          ],
        ],
      ],
    ]);
    expect(hex(pickle(new PyEnum("dask.typing", "NoDefault", "no_default")))).toContain(hex(Buffer.from("getattr")));
  });

  it("refuses what it cannot write", () => {
    expect(() => pickle(serializedBytes(new Uint8Array(1)))).toThrow(TypeError);
    expect(() => pickle("\ud800")).toThrow(TypeError);
  });
});

describe("pythonRepr", () => {
  it("is Python's repr", async () => {
    const texts = [
      "'",
      '"',
      "'\"",
      "\n\t\r\\",
      "\x00\x7f\x80\xa0\xad",
      "é日\u{1d49c}",
      "\u2028\u3000\ufeff\ue000\u{e0001}",
    ];
    const floats = [1e16, 1e15 + 0.5, 1e22, 1e-4, 1e-5, 1.5e-7, 123456789.125, 1e100, 5e-324, 0.1, -0, 1 / 3];
    const values: Value[] = [
      ...texts,
      ...texts.map((text) => Buffer.from(text, "latin1")),
      ...floats,
      ...fc.sample(anyValue, { numRuns: 600, seed: 8 }).filter((value) => isOldAndOrdered(JSON.stringify(tag(value)))),
    ];
    const got = await python.ask<string[]>(
      "reprs",
      values.map((value) => tag(value)),
    );
    for (let i = 0; i < values.length; i++) expect(pythonRepr(values[i])).toBe(got[i]);
  });
});

/** Python's sets have an order of their own. */
function sorted(tagged: Tagged): unknown {
  const [kind, arg] = tagged;
  if (kind === "tuple") return [kind, arg.map(sorted)];
  if (kind === "set") return [kind, arg.map((item) => JSON.stringify(sorted(item))).sort()];
  if (kind === "dict") return [kind, arg.map(([key, item]) => [sorted(key), sorted(item)])];
  return tagged;
}

/** Python's sets have an order of their own; which newer characters are printable depends on its Unicode version. */
function isOldAndOrdered(text: string): boolean {
  return !text.includes('["set"') && !/[\u0800-\uffff]/.test(text);
}
