/** A whole configuration in one environment variable, for child processes (dask.config.serialize and deserialize). */
import type { ConfigTree, ConfigValue } from "./value.ts";
import { isTree } from "./value.ts";

export const INHERIT_VARIABLE = "DASK_INTERNAL_INHERIT_CONFIG";

/** Python's JSON writes infinity and nan as bare words. */
const BARE_WORDS = new Map<string, number>([
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
  ["NaN", Number.NaN],
]);
const MARK = "\u0001bare:";

/** URL-safe base64 of JSON, as a Python child reads it. */
export function serializeConfig(tree: ConfigTree): string {
  const json = JSON.stringify(tree, (_key, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value)
      ? `${MARK}${Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity"}`
      : value,
  ).replaceAll(/"\\u0001bare:(-?\w+)"/g, "$1");
  return Buffer.from(json).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

/** @throws {TypeError} where the text is no serialized configuration. */
export function deserializeConfig(text: string): ConfigTree {
  let value: ConfigValue;
  try {
    const json = Buffer.from(text, "base64url").toString("utf8");
    // Strings are matched first, so that a word inside of one stays what it is.
    const marked = json.replaceAll(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (token) =>
      token.startsWith('"') ? token : JSON.stringify(MARK + token),
    );
    value = JSON.parse(marked, (_key, item: unknown) => {
      if (typeof item !== "string" || !item.startsWith(MARK)) return item;
      return BARE_WORDS.get(item.slice(MARK.length)) ?? item;
    }) as ConfigValue;
  } catch (cause) {
    throw new TypeError(`${INHERIT_VARIABLE} is no serialized configuration`, { cause });
  }
  if (!isTree(value)) throw new TypeError(`${INHERIT_VARIABLE} is no serialized configuration: it must be a mapping`);
  return value;
}
