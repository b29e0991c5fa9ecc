/** Collects the tasks of a graph: numbers for keys, dependencies by number, run_specs. */
import { type Key, keyId, type Pickled } from "@dask-ts/protocol";
import { NotKnown } from "./not-known.ts";
import { keyOf } from "./plain-values.ts";
import { NodeKind, type Tape } from "./tape.ts";

/** Bytes of all run_specs of a graph together; more than this, and the graph host takes it. */
const MAX_BYTES = 2 ** 30;

/** Keys as dense numbers, in the order in which they were met. */
export class KeyNumbers {
  readonly #tape: Tape;
  readonly #numbers: Map<string, number> = new Map();
  readonly keys: Key[] = [];
  readonly ids: string[] = [];

  constructor(tape: Tape) {
    this.#tape = tape;
  }

  /** The number of the key at a node; a new one where it was not met before. */
  of(node: number): number {
    const { head, kind } = this.#tape;
    // `head` of strings and tuples is free
    const isFree = kind[node] === NodeKind.str || (kind[node] === NodeKind.tuple && this.#tape.b[node] !== 0);
    const known = isFree ? (head[node] as number) : 0;
    if (known !== 0) return known - 1;
    const key = keyOf(this.#tape, node);
    const number = this.ofKey(key);
    if (isFree) head[node] = number + 1;
    return number;
  }

  ofKey(key: Key): number {
    const id = keyId(key);
    let number = this.#numbers.get(id);
    if (number === undefined) {
      number = this.keys.length;
      this.#numbers.set(id, number);
      this.keys.push(key);
      this.ids.push(id);
    }
    return number;
  }

  find(key: Key): number | undefined {
    return this.#numbers.get(keyId(key));
  }
}

/** Counts what run_specs take. */
export class ByteBudget {
  #left = MAX_BYTES;

  take(spec: Pickled): Pickled {
    this.#left -= spec.header.byteLength;
    if (this.#left < 0) throw new NotKnown("run_specs of more than 1 GiB");
    return spec;
  }
}
