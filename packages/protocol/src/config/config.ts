/** The resolved configuration: read once at the start of a process, then unchangeable. */
import { serializeConfig } from "./inherit.ts";
import { parseBytes, parseTimedelta, type WarnOdd } from "./quantities.ts";
import { assign, canonicalName, type ConfigTree, type ConfigValue, isTree, leaves, lookUp } from "./value.ts";

/** Records of a history without a length of its own. */
const LONGEST_HISTORY = 1_000_000;

export class ConfigError extends Error {
  readonly code = "DASK_CONFIG";
  override readonly name = "ConfigError";
}

export class Config {
  readonly #tree: ConfigTree;
  /** Where each leaf comes from, by its canonical key. */
  readonly #origins: ReadonlyMap<string, string>;
  readonly #warn: WarnOdd | undefined;

  /** Takes the tree over. Use `loadConfig`. */
  constructor(tree: ConfigTree, origins: ReadonlyMap<string, string> = new Map(), warn?: WarnOdd) {
    this.#tree = tree;
    this.#origins = origins;
    this.#warn = warn;
    freeze(tree);
    Object.freeze(this);
  }

  /**
   * The value at a dotted key, `-` and `_` alike.
   *
   * @throws {ConfigError} where there is none and no default is given.
   */
  get(key: string, fallback?: ConfigValue): ConfigValue {
    const value = lookUp(this.#tree, key);
    if (value !== undefined) return value;
    if (fallback === undefined) throw new ConfigError(`no configuration key '${key}'`);
    return fallback;
  }

  has(key: string): boolean {
    return lookUp(this.#tree, key) !== undefined;
  }

  /** @throws {ConfigError} where the value is neither a text nor null. */
  getString(key: string): string | null {
    const value = this.get(key);
    if (value === null || typeof value === "string") return value;
    throw this.#wrong(key, value, "a text");
  }

  /** @throws {ConfigError} where the value is no number (a text that is one counts). */
  getNumber(key: string): number {
    const value = this.get(key);
    const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
    if (typeof number === "number" && !Number.isNaN(number)) return number;
    throw this.#wrong(key, value, "a number");
  }

  /**
   * How many records a history keeps. Stock reads null as "all"; here it means {@link LONGEST_HISTORY}, so that no
   * history can take all memory.
   *
   * @throws {ConfigError} where the value is neither a number nor null.
   */
  getLength(key: string): number {
    return this.get(key) === null ? LONGEST_HISTORY : Math.min(this.getNumber(key), LONGEST_HISTORY);
  }

  /** Python truth: null, false, 0 and empty texts, lists and mappings are false. */
  getBoolean(key: string): boolean {
    const value = this.get(key);
    if (isTree(value)) return Object.keys(value).length > 0;
    return Array.isArray(value) ? value.length > 0 : Boolean(value);
  }

  /** A list of texts; a single text is a list of one. @throws {ConfigError} */
  getStrings(key: string): string[] {
    const value = this.get(key);
    if (value === null) return [];
    if (typeof value === "string") return [value];
    if (Array.isArray(value)) return value.map(String);
    throw this.#wrong(key, value, "a list");
  }

  /** A duration in seconds, or null. @param defaultUnit of a bare number. @throws {ConfigError} */
  getSeconds(key: string, defaultUnit = "seconds"): number | null {
    return this.#quantity(key, "a duration", (value) => parseTimedelta(value, defaultUnit, this.#warnAbout(key)));
  }

  /** A duration in milliseconds, or null. @throws {ConfigError} */
  getMs(key: string, defaultUnit = "seconds"): number | null {
    const seconds = this.getSeconds(key, defaultUnit);
    // 0.3 s is 300 ms, not 299.99999999999994 ms.
    return seconds === null ? null : Number((seconds * 1000).toPrecision(15));
  }

  /** A size in bytes, or null (false counts as null: "no limit"). @throws {ConfigError} */
  getBytes(key: string): number | null {
    return this.#quantity(key, "a size", (value) => parseBytes(value, this.#warnAbout(key)));
  }

  /** Where the value at a leaf comes from: `default`, a file name, the variable's name, or what `with` was told. */
  origin(key: string): string | undefined {
    return this.#origins.get(canonicalKey(this.#tree, key));
  }

  /** A copy with some keys set, as `dask.config.set` does; for command line flags. */
  with(values: Readonly<Record<string, ConfigValue>>, origin = "override"): Config {
    const tree = structuredClone(this.#tree);
    const origins = new Map(this.#origins);
    for (const [key, value] of Object.entries(values)) {
      assign(tree, key, structuredClone(value));
      const name = canonicalKey(tree, key);
      if (isTree(value)) for (const [leaf] of leaves(value, `${name}.`)) origins.set(leaf, origin);
      else origins.set(name, origin);
    }
    return new Config(tree, origins, this.#warn);
  }

  /** The value of `DASK_INTERNAL_INHERIT_CONFIG` for a child process. */
  serialize(): string {
    return serializeConfig(this.#tree);
  }

  /** A copy as plain data. */
  toObject(): ConfigTree {
    return structuredClone(this.#tree);
  }

  #quantity(key: string, what: string, parse: (value: string | number) => number): number | null {
    const value = this.get(key);
    if (value === null || value === false) return null;
    try {
      if (typeof value === "string" || typeof value === "number") return parse(value);
    } catch (cause) {
      throw new ConfigError(`${key}: ${(cause as Error).message}`, { cause });
    }
    throw this.#wrong(key, value, what);
  }

  #warnAbout(key: string): WarnOdd {
    return (text) => this.#warn?.(`${key}: ${text}`);
  }

  #wrong(key: string, value: ConfigValue, what: string): ConfigError {
    const origin = this.origin(key);
    const from = origin === undefined || origin === "default" ? "" : ` (from ${origin})`;
    return new ConfigError(`${key} must be ${what}, not ${JSON.stringify(value)}${from}`);
  }
}

/** The key with the spelling that the tree uses. */
export function canonicalKey(tree: ConfigTree, key: string): string {
  let at: ConfigValue | undefined = tree;
  const names: string[] = [];
  for (const part of key.split(".")) {
    const name: string = isTree(at) ? canonicalName(part, at) : part;
    names.push(name);
    at = isTree(at) && Object.hasOwn(at, name) ? at[name] : undefined;
  }
  return names.join(".");
}

function freeze(value: ConfigValue): void {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  for (const item of Object.values<ConfigValue>(value)) freeze(item);
}
