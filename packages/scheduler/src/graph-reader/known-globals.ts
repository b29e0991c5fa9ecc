/**
 * Which names a pickle may hold for a graph to be taken in without Python. Stock unpickles every graph on the scheduler,
 * so that a module that is missing there is a clear error for its client. A worker that gets such a task is lost: its
 * whole message cannot be opened. So a name counts as known only where it is part of Python or Dask itself, or where the
 * graph host has opened a graph with it before.
 */
import { KNOWN_CALLS, KNOWN_MODULES, PYTHON_MODULES } from "./known-modules.ts";
import type { GlobalName, Tape } from "./tape.ts";

/** Names learned from the graph host; past this nothing more is learned. */
const MAX_LEARNED = 20_000;

export class KnownGlobals {
  readonly #names: Set<string> = new Set();
  readonly #calls: Set<string> = new Set();

  isName(module: string, name: string): boolean {
    return isKnownModule(module) || this.#names.has(`${module}\n${name}`);
  }

  isCall(module: string, name: string): boolean {
    return KNOWN_CALLS.has(`${module}\n${name}`) || this.#calls.has(`${module}\n${name}`);
  }

  /** After the graph host has opened a graph with these names. */
  learn(names: readonly GlobalName[]): void {
    for (const { module, name, called } of names) {
      if (this.#names.size + this.#calls.size >= MAX_LEARNED) return;
      const id = `${module}\n${name}`;
      this.#names.add(id);
      // What a call of Python's own gives depends on its arguments: `getattr`, `eval`, `operator.getitem`.
      if (called && !PYTHON_MODULES.has(topOf(module))) this.#calls.add(id);
    }
  }

  /** Those names on a tape that are not known. */
  unknown(tape: Tape): GlobalName[] {
    return tape.globals.filter(
      ({ module, name, called }) => !this.isName(module, name) || (called && !this.isCall(module, name)),
    );
  }
}

/** A module that every worker has, and whose import has no needs of its own. */
function isKnownModule(module: string): boolean {
  return KNOWN_MODULES.has(module) || PYTHON_MODULES.has(topOf(module));
}

function topOf(module: string): string {
  const dot = module.indexOf(".");
  return dot === -1 ? module : module.slice(0, dot);
}
