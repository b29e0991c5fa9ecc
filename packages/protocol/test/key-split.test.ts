import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Float, type Key, keySplit, keySplitGroup } from "../src/index.ts";
import { Oracle, tag, type Tagged } from "./support/oracle.ts";

describe("keySplit and keySplitGroup", () => {
  let dask: Oracle;
  beforeAll(() => {
    dask = new Oracle();
  });
  afterAll(() => dask.close());

  it("give what dask.utils.key_split and distributed.utils.key_split_group give", async () => {
    const keys = sampleKeys();
    const expected = await dask.ask<[string, Tagged][]>(
      "key_split",
      keys.map((key) => tag(key as never)),
    );
    const got = keys.map((key) => [keySplit(key), tag(keySplitGroup(key) as never)]);
    for (let i = 0; i < keys.length; i++) {
      expect(got[i], `key ${JSON.stringify(tag(keys[i] as never))}`).toEqual(expected[i]);
    }
    expect(keys.length).toBeGreaterThan(5000);
  });

  it("take keys for which Dask's functions raise as Other", () => {
    expect(keySplit([])).toBe("Other");
    expect(keySplitGroup([])).toBe("Other");
    expect(keySplit(Uint8Array.of(0xff))).toBe("Other");
    expect(keySplitGroup("")).toBe("Other");
  });
});

function sampleKeys(): Key[] {
  const hash = "ae05086432ca935f6eba409a8ecd4896";
  const pieces = "x,X,é,ß,日本,Ⅷ,1,_,-,--,(,),',\",<,>,.,%,\u{1d49c}"
    .split(",")
    .concat(["inc", "hello", "abcdefab", "deadline", "elephant", "Abcdefab", "0", "12", " ", "\t", "\x1c", ",", ", "])
    .concat(["<module.submodule.myclass object at 0xdaf372", "<lambda>", "sum-aggregate", hash, hash.slice(0, 8), ""])
    .concat(["\u{1d49c}bcdefgh", "é\u{1d49c}", "('x-2', 1)", "('x', 1)", "_", "data", "_(x)", hash.toUpperCase()]);
  const texts = new Set<string>(pieces);
  for (const a of pieces) {
    for (const b of pieces) {
      texts
        .add(`${a}-${b}`)
        .add(a + b)
        .add(`${a}-${b}-1`)
        .add(`('${a}-${b}', 1)`);
    }
  }
  const keys: Key[] = [...texts];
  for (const text of [...pieces, "a-b-c-1", "('a-b', (1, 2))"]) {
    keys.push([text, 1], [[text, 2], 3], Buffer.from(text), [Buffer.from(text), 0]);
  }
  keys.push(1, -1, 2n ** 60n, 1.5, new Float(1), null, true, [null, 1], [1, "a"], [1.5], [[1, 2], "a"], [true]);
  return keys;
}
