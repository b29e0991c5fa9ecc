/** What the state machine raises where it finds itself broken. The worker logs an event and closes. */
import type { Key, Message, Value } from "@dask-ts/protocol";
import { formatKey } from "@dask-ts/protocol";
import type { TaskStateName } from "./task-state.ts";

/** Shows a story below an error's first line. */
function withStory(title: string, story: readonly Value[]): string {
  return `${title}\n  Story:\n    ${story.map((record) => JSON.stringify(record)).join("\n    ")}`;
}

/** There is no such transition. Mirrors `InvalidTransition` (and `TransitionCounterMaxExceeded`, by its topic). */
export class InvalidTransition extends Error {
  readonly topic: string;
  readonly event: Message;
  constructor(
    key: Key,
    start: TaskStateName,
    finish: TaskStateName,
    story: Value[],
    options: { topic?: string; cause?: unknown } = {},
  ) {
    super(withStory(`InvalidTransition: ${formatKey(key)} :: ${start}->${finish}`, story), { cause: options.cause });
    this.name = "InvalidTransition";
    this.topic = options.topic ?? "invalid-worker-transition";
    this.event = { key: key, start, finish, story };
  }
}

/** A task is not as its state says. Mirrors `InvalidTaskState`. */
export class InvalidTaskState extends Error {
  readonly topic = "invalid-worker-task-state";
  readonly event: Message;
  constructor(key: Key, state: TaskStateName, story: Value[], cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(withStory(`InvalidTaskState: ${formatKey(key)} :: ${state}: ${reason}`, story), { cause });
    this.name = "InvalidTaskState";
    this.event = { key: key, state, story };
  }
}
