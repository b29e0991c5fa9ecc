/** Output of children on its way to this process's own: whole lines, and never more than the reader there takes. */
import type { Readable, Writable } from "node:stream";

/** A longer line is passed on in pieces, bytes. */
const LONGEST_LINE = 65_536;
const NEWLINE = 10;

/** Where the output of several children goes. */
interface Target {
  /** Sources that go on when there is room again. */
  readonly paused: Set<Readable>;
  /** Its reader is gone: what comes is read, and dropped. */
  isBroken: boolean;
}

const targets: WeakMap<Writable, Target> = new WeakMap();

/**
 * Writes what comes from `source` to `target`, line by line, so that lines of several children do not mix. While the
 * reader of `target` takes nothing, nothing is read: the child that prints waits, as it would with that reader at the
 * other end of its own pipe, and this process does not.
 */
export function forwardOutput(source: Readable, target: Writable): void {
  const state = stateOf(target);
  /** The beginning of a line. */
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;

  const write = (bytes: Uint8Array): void => {
    if (state.isBroken || target.write(bytes)) return;
    source.pause();
    if (state.paused.size === 0) target.once("drain", () => resumeAll(state));
    state.paused.add(source);
  };
  const writePending = (end: Uint8Array): void => {
    write(pending.length === 0 ? end : Buffer.concat([...pending, end]));
    pending = [];
    pendingBytes = 0;
  };
  source.on("data", (chunk: Uint8Array) => {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    const rest = chunk.subarray(end);
    if (end > 0) writePending(chunk.subarray(0, end));
    if (rest.byteLength === 0) return;
    pending.push(rest);
    pendingBytes += rest.byteLength;
    if (pendingBytes > LONGEST_LINE) writePending(NOTHING);
  });
  source.once("close", () => {
    state.paused.delete(source);
    if (pendingBytes > 0) writePending(END_OF_LINE);
  });
}

function stateOf(target: Writable): Target {
  const known = targets.get(target);
  if (known !== undefined) return known;
  const state: Target = { paused: new Set(), isBroken: false };
  targets.set(target, state);
  target.on("error", () => {
    state.isBroken = true;
    resumeAll(state);
  });
  return state;
}

function resumeAll(state: Target): void {
  const sources = [...state.paused];
  state.paused.clear();
  for (const source of sources) source.resume();
}

const NOTHING = new Uint8Array(0);
const END_OF_LINE = Uint8Array.of(NEWLINE);
