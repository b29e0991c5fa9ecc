/**
 * Reads the configuration as dask.config.refresh does: defaults, then YAML files, then the environment; later wins.
 * Where it reads is told by `LoadOptions` only, so that tests and children see exactly what they are given.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { extname, join } from "node:path";
import { parse as parseYaml, type Tags } from "yaml";
import { canonicalKey, Config, ConfigError } from "./config.ts";
import { DEFAULTS } from "./defaults.ts";
import { DEPRECATIONS } from "./deprecations.ts";
import { deserializeConfig, INHERIT_VARIABLE } from "./inherit.ts";
import { interpretValue } from "./literal.ts";
import { assign, type ConfigTree, type ConfigValue, isTree, leaves, lookUp, mergeInto, takeOut } from "./value.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface LoadOptions {
  readonly env: Environment;
  /** Files and directories to read, instead of the search path. */
  readonly paths?: readonly string[];
  /** Home of `~/.config/dask`; by default the user's. */
  readonly home?: string;
  /** Set last: command line flags. */
  readonly overrides?: Readonly<Record<string, ConfigValue>>;
  /** Told of deprecated keys and odd values; by default nobody is. */
  readonly warn?: (text: string) => void;
}

/**
 * Reads defaults, files and the environment.
 *
 * @throws {ConfigError} naming a file that is no YAML, or whose top level is no mapping. Files that cannot be opened
 *   are skipped.
 */
export function loadConfig(options: LoadOptions): Config {
  const { env } = options;
  const warn = options.warn ?? (() => undefined);
  const layers: Layer[] = [];
  for (const path of options.paths ?? searchPaths(env, options.home)) {
    for (const file of configFiles(path)) {
      const tree = readConfigFile(file);
      if (tree !== undefined) layers.push({ origin: file, tree });
    }
  }
  layers.push({ origin: "environment", tree: collectEnvironment(env, warn) });
  const collected = collect(layers, warn);

  const tree = structuredClone(DEFAULTS);
  const origins = new Map<string, string>();
  for (const [key] of leaves(tree)) origins.set(key, "default");
  mergeInto(tree, collected, "new");
  // The last layer that has a leaf is the one it comes from.
  for (const layer of layers) {
    for (const [key] of leaves(layer.tree)) origins.set(canonicalKey(tree, key), layer.origin);
  }
  const config = new Config(tree, origins, warn);
  return options.overrides === undefined ? config : config.with(options.overrides, "command line");
}

interface Layer {
  readonly origin: string;
  readonly tree: ConfigTree;
}

/** The directories and files that Dask looks into, lowest priority first (dask.config._get_paths). */
export function searchPaths(env: Environment, home: string = homedir()): string[] {
  const prefix = env["VIRTUAL_ENV"] ?? env["CONDA_PREFIX"];
  const paths = [
    env["DASK_ROOT_CONFIG"] ?? "/etc/dask",
    // Python's own prefix, which only an active environment tells.
    ...(prefix === undefined ? ["/usr/etc/dask", "/usr/local/etc/dask"] : [join(prefix, "etc", "dask")]),
    join(home, ".config", "dask"),
    ...(env["DASK_CONFIG"] === undefined ? [] : [env["DASK_CONFIG"]]),
  ];
  return paths.filter((path, i) => paths.lastIndexOf(path) === i);
}

/** A path's own configuration files: itself, or what is in the directory, in the order in which it is read. */
export function configFiles(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path)
      .filter((name) => [".json", ".yaml", ".yml"].includes(extname(name).toLowerCase()))
      .map((name) => join(path, name))
      .sort();
  } catch {
    return [];
  }
}

/** @throws {ConfigError} as {@link loadConfig}; undefined where the file cannot be opened or is empty. */
export function readConfigFile(file: string): ConfigTree | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  let plain: ConfigValue;
  try {
    plain = parseConfigText(text);
  } catch (cause) {
    throw new ConfigError(
      `A dask config file at '${file}' is malformed, original error message:\n\n${(cause as Error).message}`,
      { cause },
    );
  }
  if (plain === null) return undefined;
  if (!isTree(plain)) {
    const type = Array.isArray(plain) ? "list" : typeof plain;
    throw new ConfigError(
      `A dask config file at '${file}' is malformed - config files must have a dict as the top level object, ` +
        `got a ${type} instead`,
    );
  }
  return plain;
}

/** The value of a YAML or JSON text, as PyYAML reads it. @throws what the parser says of a text that is neither. */
export function parseConfigText(text: string): ConfigValue {
  return plainValue(parseYaml(text, { version: "1.1", uniqueKeys: false, logLevel: "error", customTags: pyYamlTags }));
}

/** PyYAML leaves two things of YAML 1.1 out: `y` and `n` are texts, and so is a number like `1e3` without a point. */
function pyYamlTags(tags: Tags): Tags {
  return tags.map((tag) => {
    if (typeof tag !== "object" || !("test" in tag) || tag.test === undefined) return tag;
    const { test } = tag;
    if (test.test("y") || test.test("n")) return { ...tag, test: new RegExp(`(?!^[yYnN]$)${test.source}`) };
    if (test.test("1e3")) return { ...tag, test: new RegExp(`(?=.*\\.)(?!.*[eE][0-9])${test.source}`) };
    return tag;
  });
}

/** YAML 1.1 also has dates, sets and byte strings. */
function plainValue(value: unknown): ConfigValue {
  if (value === null || value === undefined) return null;
  if (typeof value === "boolean" || typeof value === "number" || typeof value === "string") return value;
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("utf8");
  if (Array.isArray(value)) return value.map(plainValue);
  if (value instanceof Set) return [...(value as Set<unknown>)].map(plainValue);
  const entries: Iterable<[unknown, unknown]> =
    value instanceof Map ? (value as Map<unknown, unknown>) : Object.entries(value);
  const tree: ConfigTree = {};
  for (const [key, item] of entries) {
    Object.defineProperty(tree, String(key), {
      value: plainValue(item),
      writable: true,
      enumerable: true,
      configurable: true,
    });
  }
  return tree;
}

/** `DASK_FOO__BAR_BAZ=123` is `foo.bar_baz: 123` (dask.config.collect_env). */
export function collectEnvironment(env: Environment, warn: (text: string) => void = () => undefined): ConfigTree {
  const inherited = env[INHERIT_VARIABLE];
  const tree: ConfigTree = {};
  if (inherited !== undefined) {
    for (const [key, value] of Object.entries(deserializeConfig(inherited))) {
      assign(tree, checkDeprecations(key, warn), value);
    }
  }
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith("DASK_") || value === undefined) continue;
    const key = name.slice(5).toLowerCase().replaceAll("__", ".");
    assign(tree, checkDeprecations(key, warn), interpretValue(value));
  }
  return tree;
}

/** The present name of a key; warns where it has changed. */
export function checkDeprecations(key: string, warn: (text: string) => void): string {
  const current = DEPRECATIONS[key.replaceAll("_", "-")];
  if (current === undefined) return key;
  warn(deprecated(key, current));
  return current;
}

function deprecated(key: string, current: string): string {
  return `Dask configuration key '${key}' has been deprecated; please use '${current}' instead`;
}

/** Merges the layers, highest priority first, renaming deprecated keys in each (dask.config.collect). */
function collect(layers: readonly Layer[], warn: (text: string) => void): ConfigTree {
  const result: ConfigTree = {};
  const seen = new Set<string>();
  for (const layer of layers.toReversed()) {
    for (const [old, current] of Object.entries(DEPRECATIONS)) {
      const value = takeOut(layer.tree, old);
      if (value === undefined) continue;
      assign(layer.tree, current, value);
      // Silent where a layer above says it by its present name.
      if (!seen.has(old) && lookUp(result, current) === undefined) {
        warn(`${deprecated(old, current)} (in ${layer.origin})`);
      }
      seen.add(old);
    }
    mergeInto(result, structuredClone(layer.tree), "old");
  }
  return result;
}
