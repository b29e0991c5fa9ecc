/** Errors of the core. */
import type { Key } from "@dask-ts/protocol";
import { formatKey, PythonError } from "@dask-ts/protocol";
import type { Transition } from "./transition-log.ts";

/** A stream op that is in no table: the peer's stream has to be closed. */
export class UnknownOpError extends Error {
  readonly code = "unknown-op";
  readonly op: string;
  constructor(op: string, peer: string) {
    super(`unknown stream op ${JSON.stringify(op)} from ${peer}`);
    this.op = op;
  }
}

/** A message whose fields are not what its op needs. Nothing of it was applied. */
export class BadMessageError extends Error {
  readonly code = "bad-message";
}

/** Dask's KeyError for tasks, and what its callers get. */
export class UnknownKeyError extends PythonError {
  readonly key: Key;
  constructor(key: Key) {
    super("KeyError", `unknown task key ${formatKey(key)}`, { args: [key] });
    this.key = key;
  }
}

/** No edge between two states, or a transition that cannot be (RuntimeError in SchedulerState._transition). */
export class InvalidTransitionError extends Error {
  readonly code = "invalid-transition";
  readonly story: readonly Transition[];
  constructor(message: string, story: readonly Transition[]) {
    super(`${message}\nstory:\n${formatStory(story)}`);
    this.story = story;
  }
}

/** A broken invariant found by validateState. */
export class InvariantError extends Error {
  readonly code = "invariant";
  readonly story: readonly Transition[];
  constructor(message: string, story: readonly Transition[]) {
    super(story.length === 0 ? message : `${message}\nstory:\n${formatStory(story)}`);
    this.story = story;
  }
}

function formatStory(story: readonly Transition[]): string {
  return story
    .slice(-40)
    .map((t) => {
      const recs = t.recommendations.map(([key, state]) => `${formatKey(key)}: ${state}`).join(", ");
      return `  ${formatKey(t.key)} ${t.start} -> ${t.finish} {${recs}} ${t.stimulusId}`;
    })
    .join("\n");
}
