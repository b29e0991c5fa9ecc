/** Configuration values: what YAML, JSON and the environment can say. Integers and floats are both numbers here. */
export type ConfigValue = null | boolean | number | string | ConfigValue[] | ConfigTree;

export interface ConfigTree {
  [key: string]: ConfigValue;
}

export function isTree(value: ConfigValue | undefined): value is ConfigTree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * The spelling that a key already has in `tree`: `-` and `_` are interchangeable, and whichever came first stays
 * (dask.config.canonical_name).
 */
export function canonicalName(key: string, tree: ConfigTree): string {
  if (Object.hasOwn(tree, key)) return key;
  const other = key.includes("_") ? key.replaceAll("_", "-") : key.replaceAll("-", "_");
  return Object.hasOwn(tree, other) ? other : key;
}

/** The value at a dotted key; undefined where there is none. */
export function lookUp(tree: ConfigTree, key: string): ConfigValue | undefined {
  let at: ConfigValue = tree;
  for (const part of key.split(".")) {
    if (!isTree(at)) return undefined;
    const name = canonicalName(part, at);
    if (!Object.hasOwn(at, name)) return undefined;
    at = at[name]!;
  }
  return at;
}

/** Sets the value at a dotted key; what stands in the way and is no mapping is replaced (dask.config.set). */
export function assign(tree: ConfigTree, key: string, value: ConfigValue): void {
  const parts = key.split(".");
  let at = tree;
  for (const part of parts.slice(0, -1)) {
    const name = canonicalName(part, at);
    let next = Object.hasOwn(at, name) ? at[name] : undefined;
    if (!isTree(next)) {
      next = {};
      define(at, name, next);
    }
    at = next;
  }
  const last = parts[parts.length - 1]!;
  define(at, canonicalName(last, at), value);
}

/** Takes the value at a dotted key out of the tree. */
export function takeOut(tree: ConfigTree, key: string): ConfigValue | undefined {
  const dot = key.lastIndexOf(".");
  const parent = dot < 0 ? tree : lookUp(tree, key.slice(0, dot));
  if (!isTree(parent)) return undefined;
  const name = canonicalName(key.slice(dot + 1), parent);
  if (!Object.hasOwn(parent, name)) return undefined;
  const value = parent[name];
  delete parent[name];
  return value;
}

/** Whose value stays where both have one. */
export type Priority = "old" | "new";

/** Merges `from` into `into`: mappings deeply, lists and scalars as a whole (dask.config.update). */
export function mergeInto(into: ConfigTree, from: ConfigTree, priority: Priority): ConfigTree {
  for (const [key, value] of Object.entries(from)) {
    const name = canonicalName(key, into);
    const old = Object.hasOwn(into, name) ? into[name] : undefined;
    if (isTree(value)) {
      // A mapping replaces a scalar whatever the priority, as in Dask.
      const target: ConfigTree = isTree(old) ? old : {};
      if (target !== old) define(into, name, target);
      mergeInto(target, value, priority);
    } else if (priority === "new" || old === undefined) {
      define(into, name, value);
    }
  }
  return into;
}

/** Plain assignment, safe for a key named `__proto__`. */
function define(tree: ConfigTree, key: string, value: ConfigValue): void {
  Object.defineProperty(tree, key, { value, writable: true, enumerable: true, configurable: true });
}

/** Dotted key and value of every leaf; empty mappings count as leaves. */
export function* leaves(tree: ConfigTree, prefix = ""): Generator<[key: string, value: ConfigValue]> {
  for (const [key, value] of Object.entries(tree)) {
    if (isTree(value) && Object.keys(value).length > 0) yield* leaves(value, `${prefix}${key}.`);
    else yield [`${prefix}${key}`, value];
  }
}
