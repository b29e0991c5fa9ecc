/** docs/configuration.md against the defaults: every key once, with its default. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ConfigTree, type ConfigValue, loadConfig } from "@dask-ts/protocol";

const TEXT =
  readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8").split("## `distributed.*`")[1] ?? "";
const ROWS = [...TEXT.matchAll(/^\| `([^`]+)` \| `([^`]*)` \| (.+) \|$/gm)].map(
  ([, key = "", value = "", effect = ""]) => ({
    key,
    value,
    effect,
  }),
);

function* leaves(tree: ConfigTree, prefix = ""): Generator<[string, ConfigValue]> {
  for (const [key, value] of Object.entries(tree)) {
    const isTree = typeof value === "object" && value !== null && !Array.isArray(value);
    if (isTree && Object.keys(value).length > 0) yield* leaves(value, `${prefix}${key}.`);
    else yield [prefix + key, value];
  }
}

const defaults = loadConfig({ env: {}, paths: [] }).get("distributed") as ConfigTree;

test("every key of distributed.yaml has a line that says what it does here", () => {
  const documented = ROWS.map(({ key }) => key).sort();
  expect(documented).toEqual([...leaves(defaults)].map(([key]) => key).sort());
  expect(ROWS.filter(({ effect }) => effect.trim().length < 8)).toEqual([]);
});

test("the defaults are those of the release", () => {
  const shown = new Map(ROWS.map(({ key, value }) => [key, value]));
  for (const [key, value] of leaves(defaults)) {
    if (value === null || typeof value === "boolean" || typeof value === "string")
      expect(shown.get(key)).toBe(String(value));
    else if (typeof value === "number" && Number.isFinite(value)) expect(Number(shown.get(key))).toBe(value);
  }
});
