/** What kind of object a node stands for, as far as Dask's own code would tell them apart. */
import { NotKnown } from "./not-known.ts";
import { NodeKind, type Tape } from "./tape.ts";

export const TASK_SPEC = "dask._task_spec";

export type ObjectClass =
  /** Has no parts that Dask looks at, and is no key. */
  | "data"
  /** The same, and certainly callable. */
  | "callable"
  /** A future or TaskRef: the first argument is its key. */
  | "future"
  /** A node of `dask._task_spec`. */
  | "graph-node";

const CALLABLE: ReadonlySet<string> = new Set([
  "cloudpickle.cloudpickle\n_make_function",
  "functools\npartial",
  "operator\nattrgetter",
  "operator\nitemgetter",
  "operator\nmethodcaller",
]);

const DATA: ReadonlySet<string> = new Set(
  Object.entries({
    builtins: "bytearray complex range slice",
    datetime: "date datetime time timedelta timezone",
    decimal: "Decimal",
    fractions: "Fraction",
    pathlib: "Path PosixPath PurePath PurePosixPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath",
    uuid: "UUID",
    "numpy._core.multiarray": "_reconstruct",
    "numpy.core.multiarray": "_reconstruct",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.numeric": "_frombuffer",
    numpy: "dtype",
    "numpy.random._pickle": "__generator_ctor __randomstate_ctor",
    "pandas.core.frame": "DataFrame",
    "pandas.core.series": "Series",
    "pandas.core.indexes.base": "_new_Index",
    "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
  }).flatMap(([module, names]) => names.split(" ").map((name) => `${module}\n${name}`)),
);

/** Scalars are numbers or texts too, and so perhaps keys; only where keys do not matter they are data. */
const SCALARS: ReadonlySet<string> = new Set(["numpy._core.multiarray\nscalar", "numpy.core.multiarray\nscalar"]);

/**
 * The class of a node that is neither an atom nor one of Python's containers.
 *
 * @param mayBeKey whether a number or text could be meant as a key at this place.
 * @throws {NotKnown} where only Python can tell.
 */
export function objectClass(tape: Tape, node: number, mayBeKey: boolean): ObjectClass {
  const kind = tape.kind[node] as number;
  if (kind === NodeKind.global) {
    const { module, name } = tape.globals[tape.tail[node] as number] as { module: string; name: string };
    if (module === "builtins" && (name === "Ellipsis" || name === "NotImplemented")) return "data";
    // functions and classes; a constant that pickles by its name (`pandas.NA`, `socket.AF_INET`) may be anything
    if (!/[a-z]/.test(name.slice(name.lastIndexOf(".") + 1)) || module === "typing") {
      throw new NotKnown(`a global that may be no function: ${module}.${name}`);
    }
    return "callable";
  }
  if (kind === NodeKind.buffer || kind === NodeKind.readonlyBuffer) return "data";
  if (kind === NodeKind.reduce || kind === NodeKind.newobj) {
    const callee = tape.globalOf(tape.a[node] as number);
    if (callee === undefined) throw new NotKnown("an object of a class that is pickled by value");
    const id = `${callee.module}\n${callee.name}`;
    if (CALLABLE.has(id)) return "callable";
    if (DATA.has(id) || (!mayBeKey && SCALARS.has(id))) return "data";
    if (callee.module === TASK_SPEC) return callee.name === "TaskRef" ? "future" : "graph-node";
    if (callee.module === "distributed.client" && callee.name === "Future") return "future";
    throw new NotKnown(`an object of a class that is not known here: ${callee.module}.${callee.name}`);
  }
  throw new NotKnown("an object that is not known here");
}

/** The node of a future's or TaskRef's key. */
export function futureKey(tape: Tape, node: number): number {
  const args = tape.b[node] as number;
  if (tape.kind[node] !== NodeKind.reduce || tape.b[args] === 0 || tape.head[node] !== 0) {
    throw new NotKnown("a future of an unknown form");
  }
  return tape.item(args, 0);
}
