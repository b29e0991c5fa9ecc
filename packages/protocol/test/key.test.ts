import { expect, it } from "vitest";
import { Float, formatKey, isKey, type Key, keyId, type Value } from "../src/index.ts";

it("ids are equal exactly where Python's keys are", () => {
  const same: [Key, Key][] = [
    [1, new Float(1)],
    [1, true],
    [0, false],
    [0, -0],
    [0, new Float(-0)],
    [2 ** 53, BigInt(2 ** 53)],
    [new Float(2 ** 53), BigInt(2 ** 53)],
    [new Float(1e22), 10n ** 22n],
    [
      ["x", 1],
      ["x", new Float(1)],
    ],
    [Buffer.from("a"), Uint8Array.of(97)],
  ];
  for (const [a, b] of same) expect(keyId(a)).toBe(keyId(b));
  const texts: Key[] = ["1", "x", "\0n1", "\0sx", "", "\0", "('x', 1)"];
  const plain: Key[] = [1, 1.5, -1, null, Buffer.from("x"), Buffer.from("")];
  const tuples: Key[] = [[], [[]], ["x"], [["x"]], ["x", 1], ["x", "1"], ["x1"], ["x", "y"], ["xy"], ["", "xy"]];
  const different = [...texts, ...plain, ...tuples, [Buffer.from("x")]];
  expect(new Set(different.map(keyId)).size).toBe(different.length);
});

it("values that cannot be keys are refused", () => {
  const bad: (Value | undefined)[] = [undefined, new Map(), new Set(), {}, ["x", new Map()]];
  for (const value of bad) {
    expect(isKey(value)).toBe(false);
    expect(() => keyId(value)).toThrow(/a task key is/);
  }
});

it("keys are shown as Python's str shows them", () => {
  expect(formatKey("x-1")).toBe("x-1");
  expect(formatKey(["x-1", 0, [new Float(1), "it's"]])).toBe(`('x-1', 0, (1.0, "it's"))`);
  expect(formatKey([Buffer.from("\xff", "latin1")])).toBe("(b'\\xff',)");
});
