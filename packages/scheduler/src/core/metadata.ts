/** Scheduler.set_metadata and get_metadata; and the collection of tasks' metadata by name. */
import { type Key, keyId, type Value } from "@dask-ts/protocol";
import type { Context } from "./context.ts";
import type { TransitionListener, UpdateGraphListener } from "./hooks.ts";
import { State } from "./task-status.ts";

/** Metadata by path: nested maps by keyId, each entry with its original key. */
export class MetadataTree {
  private readonly root: Map<string, [key: Key, value: Value]> = new Map();

  set(path: readonly Key[], value: Value): void {
    const last = path[path.length - 1];
    if (last === undefined) return;
    let level = this.root;
    for (const key of path.slice(0, -1)) {
      const id = keyId(key);
      const known = level.get(id)?.[1];
      if (known instanceof Branch) level = known.entries;
      else {
        const branch = new Branch(known instanceof Map ? known : undefined);
        level.set(id, [key, branch as unknown as Value]);
        level = branch.entries;
      }
    }
    level.set(keyId(last), [last, value]);
  }

  /**
   * undefined where the path leads nowhere.
   *
   * @throws {TypeError} where it leads into a value that is no dict.
   */
  get(path: readonly Key[]): Value | undefined {
    let level: Map<string, [Key, Value]> | undefined = this.root;
    let value: Value | undefined = asMap(this.root);
    for (const key of path) {
      const id = keyId(key);
      if (level !== undefined) value = level.get(id)?.[1];
      else if (value instanceof Map) value = lookUp(value, id);
      else throw new TypeError(`the metadata before '${id}' is a value, not a dict`);
      if (value === undefined) return undefined;
      level = value instanceof Branch ? value.entries : undefined;
    }
    return level === undefined ? value : asMap(level);
  }

  delete(id: string): void {
    this.root.delete(id);
  }

  clear(): void {
    this.root.clear();
  }
}

class Branch {
  readonly entries: Map<string, [Key, Value]> = new Map();
  constructor(from: Map<Value, Value> | undefined) {
    for (const [key, value] of from ?? []) this.entries.set(keyId(key), [key as Key, value]);
  }
}

function asMap(level: Map<string, [Key, Value]>): Map<Value, Value> {
  const result = new Map<Value, Value>();
  for (const [key, value] of level.values()) {
    result.set(key, (value as unknown) instanceof Branch ? asMap((value as unknown as Branch).entries) : value);
  }
  return result;
}

function lookUp(map: Map<Value, Value>, id: string): Value | undefined {
  for (const [key, value] of map) if (keyId(key) === id) return value;
  return undefined;
}

/** CollectTaskMetaDataPlugin: metadata and state of the keys wanted between start and stop. */
export class TaskMetadataCollector {
  private readonly keys: Set<string> = new Set();
  readonly metadata: Map<Key, Value> = new Map();
  readonly state: Map<Key, string> = new Map();
  private readonly ctx: Context;
  private readonly onUpdateGraph: UpdateGraphListener = (_client, keys) => {
    for (const key of keys) this.keys.add(keyId(key));
  };
  private readonly onTransition: TransitionListener = (ts, _start, finish) => {
    if (finish !== State.memory && finish !== State.erred) return;
    if (!this.keys.delete(ts.id)) return;
    this.metadata.set(ts.key, ts.metadata);
    this.state.set(ts.key, finish === State.memory ? "memory" : "erred");
  };

  constructor(ctx: Context) {
    this.ctx = ctx;
    ctx.listeners.updateGraph.push(this.onUpdateGraph);
    ctx.listeners.transition.push(this.onTransition);
  }

  stop(): void {
    remove(this.ctx.listeners.updateGraph, this.onUpdateGraph);
    remove(this.ctx.listeners.transition, this.onTransition);
  }
}

function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}
