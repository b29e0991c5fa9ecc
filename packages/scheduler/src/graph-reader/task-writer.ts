/** Writes run_specs of graphs: nodes as they are, and nodes made here by calling their classes. */
import type { Pickled } from "@dask-ts/protocol";
import { ByteBudget } from "./graph-columns.ts";
import { TASK_SPEC } from "./objects.ts";
import { PickleWriter, type Prelude } from "./pickle-writer.ts";
import type { RunSpecBytes } from "./run-spec-bytes.ts";
import { NodeKind, type Tape } from "./tape.ts";

const MARK = 0x28;
const TUPLE = 0x74;
const REDUCE = 0x52;
const POP = 0x30;

/**
 * A class of `dask._task_spec` is called with its arguments rather than given a state: the state differs between
 * releases, the call does not.
 */
export class TaskWriter extends PickleWriter {
  readonly #tape: Tape;
  readonly #budget: ByteBudget = new ByteBudget();
  readonly #preludes: Map<number, Prelude> = new Map();

  constructor(tape: Tape, out: RunSpecBytes, buffers: readonly Uint8Array[]) {
    super(tape, out, buffers);
    this.#tape = tape;
  }

  override end(): Pickled {
    return this.#budget.take(super.end());
  }

  /**
   * A Task as it lies in the pickle. A function that several tasks share and that is pickled by value is written once:
   * it goes in front, is dropped from the stack, and taken from the memo where the task wants it.
   *
   * @param func the node of its function, or 0.
   */
  task(node: number, func: number): Pickled {
    const prelude = func === 0 ? undefined : this.#preludeOf(func);
    this.begin();
    if (prelude !== undefined) {
      this.putPrelude(prelude);
      this.op(POP);
    }
    this.node(node);
    return this.end();
  }

  #preludeOf(func: number): Prelude | undefined {
    const { kind, shared } = this.#tape;
    if ((kind[func] as number) <= NodeKind.global || shared[func] === 0) return undefined;
    let prelude = this.#preludes.get(func);
    if (prelude === undefined) {
      prelude = this.prelude(() => this.node(func), func);
      this.#preludes.set(func, prelude);
    }
    return prelude;
  }

  /** Starts a call; the arguments come next. */
  call(module: string, name: string): void {
    this.globalName(module, name);
    this.op(MARK);
  }

  endCall(): void {
    this.op(TUPLE);
    this.op(REDUCE);
  }

  /** Starts the call of a class of `dask._task_spec`. */
  callTaskSpec(name: string): void {
    this.call(TASK_SPEC, name);
  }

  /** `functools.partial(Task, **kwargs)`: a call that takes keyword arguments. @param kwargs writes names and values. */
  partialTask(kwargs: () => void): void {
    this.globalName("functools", "partial");
    this.globalName(TASK_SPEC, "Task");
    this.op(0x85);
    this.op(REDUCE);
    // the state of a partial: (func, args, keywords, attributes)
    this.op(MARK);
    this.globalName(TASK_SPEC, "Task");
    this.op(0x29);
    this.op(0x7d);
    this.op(MARK);
    kwargs();
    this.op(0x75);
    this.op(0x4e);
    this.op(TUPLE);
    this.op(0x62);
  }

  /** A short ASCII text. */
  text(text: string): void {
    const bytes = Buffer.from(`\x8c${String.fromCharCode(text.length)}${text}`, "latin1");
    this.raw(bytes, 0, bytes.length);
  }

  globalName(module: string, name: string): void {
    const bytes = globalBytes(module, name);
    this.raw(bytes, 0, bytes.length);
  }
}

const names: Map<string, Buffer> = new Map();

function globalBytes(module: string, name: string): Buffer {
  const id = `${module}\n${name}`;
  let bytes = names.get(id);
  if (bytes === undefined) {
    const text = (part: string): Buffer => Buffer.concat([Buffer.from([0x8c, part.length]), Buffer.from(part)]);
    bytes = Buffer.concat([text(module), text(name), Buffer.from([0x93])]);
    // only ever called with names that stand in this folder
    names.set(id, bytes);
  }
  return bytes;
}
