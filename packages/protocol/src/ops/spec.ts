/**
 * How the tables of operations are written, and the check of a request against them.
 *
 * A field's kind is one of {@link Kinds}; `str` must be there, `str|nil` must be there and may be nil, `str?` may be
 * missing or nil. The field `*` says that further fields of any name are taken. `op`, `reply`, `close` and
 * `serializers` belong to RPC itself (wire-protocol.md §8) and are in no table.
 */
import type { Key } from "../key.ts";
import { isKey } from "../key.ts";
import { ClosedMap, Float, type Message, Pickled, PyEnum, Serialized, type Value } from "../msgpack/value.ts";

/** What handlers see of each kind. */
export interface Kinds {
  str: string;
  /** Python's int, bool or float: read it with `asNumber`. */
  int: Num;
  float: Num;
  number: Num;
  bool: boolean | number;
  /** A number of seconds, or a text such as `5s`. */
  duration: Num | string;
  key: Key;
  /** Any number of task keys: an array or a set. */
  keys: readonly Key[] | ReadonlySet<Key>;
  /** Any number of addresses or names: an array or a set. */
  strs: readonly string[] | ReadonlySet<string>;
  list: readonly Value[] | ReadonlySet<Value>;
  map: ReadonlyMap<Value, Value>;
  bytes: Uint8Array;
  /** A sub-message that is stored and forwarded as it is. */
  serialized: Value;
  /** A pickle: a `Pickled`, or bytes. */
  pickled: Value;
  any: Value;
}

export type Num = number | bigint | boolean | Float;
export type KindName = keyof Kinds;
export type FieldSpec = KindName | `${KindName}|nil` | `${KindName}?`;

export interface OpSpec {
  readonly fields: Readonly<Record<string, FieldSpec>>;
  /** What comes back, for the reader; stream messages have no reply. */
  readonly reply?: string;
}

export type OpTable = Readonly<Record<string, OpSpec>>;

type FieldType<S> = S extends `${infer K extends KindName}?`
  ? Kinds[K] | null | undefined
  : S extends `${infer K extends KindName}|nil`
    ? Kinds[K] | null
    : S extends KindName
      ? Kinds[S]
      : never;

/** The fields of one op of a table, as its handler sees them after the check. */
export type Fields<Table extends OpTable, Op extends keyof Table> = {
  readonly [F in keyof Table[Op]["fields"] as F extends "*" ? never : F]: FieldType<Table[Op]["fields"][F]>;
};

interface Compiled {
  readonly fields: ReadonlyMap<string, { kind: KindName; nullable: boolean }>;
  readonly required: readonly string[];
  readonly open: boolean;
}

/** Checks a message's fields; see {@link fieldChecker}. */
export type FieldChecker = (op: string, fields: Message) => void;

/**
 * A check of messages against tables, compiled once; no op may be in two of them. Ops that are in no table pass.
 *
 * The check walks over all fields of a message. RPC servers use it for every request; on streams a message costs a few
 * microseconds, so that they use it for what comes seldom, and leave the hot ops (`task-finished`, `compute-task`) to
 * their handlers.
 *
 * @returns a function that throws a {@link TypeError} which names the op and the field.
 */
export function fieldChecker(...tables: readonly OpTable[]): FieldChecker {
  const ops = new Map<string, Compiled>();
  for (const table of tables) {
    for (const [op, spec] of Object.entries(table)) {
      if (ops.has(op)) throw new Error(`op '${op}' is in two of the tables`);
      ops.set(op, compile(spec));
    }
  }
  return (op, fields) => {
    const spec = ops.get(op);
    if (spec !== undefined) check(op, spec, fields);
  };
}

function compile(spec: OpSpec): Compiled {
  const fields = new Map<string, { kind: KindName; nullable: boolean }>();
  const required: string[] = [];
  for (const [name, text] of Object.entries(spec.fields)) {
    if (name === "*") continue;
    const kind = text.replace(/\?$|\|nil$/, "") as KindName;
    fields.set(name, { kind, nullable: kind.length !== text.length });
    if (!text.endsWith("?")) required.push(name);
  }
  return { fields, required, open: "*" in spec.fields };
}

function check(op: string, spec: Compiled, message: Message): void {
  let found = 0;
  for (const name in message) {
    if (name === "op") continue;
    const value = message[name];
    if (value === undefined) continue;
    const field = spec.fields.get(name);
    if (field === undefined) {
      if (spec.open) continue;
      throw new TypeError(`${op}: unexpected field '${name}' (known: ${[...spec.fields.keys()].join(", ") || "none"})`);
    }
    found++;
    if (value === null ? !field.nullable && !NIL_KINDS.has(field.kind) : !CHECKS[field.kind](value)) {
      throw new TypeError(`${op}: field '${name}' must be ${KIND_TEXTS[field.kind]}, not ${typeName(value)}`);
    }
  }
  if (found === spec.fields.size) return;
  for (const name of spec.required) {
    if (message[name] === undefined) throw new TypeError(`${op}: missing field '${name}'`);
  }
}

const isNumber = (value: Value): boolean =>
  typeof value === "number" || value instanceof Float || typeof value === "bigint" || typeof value === "boolean";
const isList = (value: Value): boolean => Array.isArray(value) || value instanceof Set;
const anything = (): boolean => true;

/** Kinds that nil belongs to by itself. */
const NIL_KINDS: ReadonlySet<KindName> = new Set<KindName>(["any", "serialized", "pickled"]);

const CHECKS: Readonly<Record<KindName, (value: Value) => boolean>> = {
  str: (value) => typeof value === "string",
  int: isNumber,
  float: isNumber,
  number: isNumber,
  bool: (value) => typeof value === "boolean" || typeof value === "number",
  duration: (value) => typeof value === "string" || isNumber(value),
  key: (value) => isKey(value),
  // Their elements are looked at where they are used: a list of a million keys is not walked twice.
  keys: isList,
  strs: isList,
  list: isList,
  map: (value) => value instanceof Map || value instanceof ClosedMap,
  bytes: (value) => value instanceof Uint8Array,
  serialized: anything,
  pickled: anything,
  any: anything,
};

const KIND_TEXTS: Readonly<Record<KindName, string>> = {
  str: "a str",
  int: "an int",
  float: "a float",
  number: "a number",
  bool: "a bool",
  duration: "a number of seconds or a text such as '5s'",
  key: "a task key",
  keys: "a list of task keys",
  strs: "a list of str",
  list: "a list",
  map: "a dict",
  bytes: "bytes",
  serialized: "a value",
  pickled: "a value",
  any: "a value",
};

/** Python's name of a value's type. */
function typeName(value: Value): string {
  if (value === null) return "None";
  if (typeof value === "string") return "str";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  if (value instanceof Float) return "float";
  if (Array.isArray(value)) return "list";
  if (value instanceof Set) return "set";
  if (value instanceof Uint8Array) return "bytes";
  if (value instanceof Serialized || value instanceof Pickled) return "a pickled object";
  if (value instanceof PyEnum) return value.className;
  return "dict";
}
