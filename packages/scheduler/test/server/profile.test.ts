/** Merging of profiles (distributed.profile.merge, Scheduler.get_profile_metadata). */
import { Float, type Value } from "@dask-ts/protocol";
import { expect, it } from "vitest";
import { emptyProfile, mergeProfileMetadata, mergeProfiles } from "../../src/server/profile.ts";

type Tree = ReadonlyMap<Value, Value>;

function tree(name: string, count: number, children: Record<string, Tree> = {}): Tree {
  return new Map<Value, Value>([
    ["identifier", name],
    ["description", new Map([["name", name]])],
    ["count", count],
    ["children", new Map(Object.entries(children))],
  ]);
}

function counts(profile: Tree): unknown {
  const children = [...(profile.get("children") as Tree)] as [string, Tree][];
  return [profile.get("count"), Object.fromEntries(children.map(([name, child]) => [name, counts(child)]))];
}

it("adds the samples of the same frames, at every depth", () => {
  const a = tree("root", 3, { f: tree("f", 3, { g: tree("g", 1) }) });
  const b = tree("root", 5, { f: tree("f", 2, { g: tree("g", 2) }), h: tree("h", 3) });
  expect(counts(mergeProfiles([a, b]))).toEqual([8, { f: [5, { g: [3, {}] }], h: [3, {}] }]);
});

it("is empty where nobody answered", () => {
  expect(mergeProfiles([])).toEqual(emptyProfile());
});

it("counts samples by bins of a cycle, in all and by prefix", () => {
  const answer = (time: number, n: number): Value => ({
    counts: [[time, n]],
    keys: [[time, new Map([["inc", n]])]],
  });
  expect(mergeProfileMetadata([answer(10.2, 1), answer(10.7, 2), answer(12.1, 4)], 1)).toEqual({
    counts: [
      [new Float(10), 3],
      [new Float(12), 4],
    ],
    keys: new Map([
      [
        "inc",
        [
          [new Float(10), 3],
          [new Float(12), 4],
        ],
      ],
    ]),
  });
});
