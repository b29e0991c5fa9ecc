/** The worker's state machine as the shell sees it. */
import type { Key, Value } from "@dask-ts/protocol";
import { stateToDict } from "./dump.ts";
import { InvalidTaskState, InvalidTransition } from "./errors.ts";
import type { WorkerEvent } from "./events.ts";
import { handleEvent } from "./handlers/dispatch.ts";
import { stimulusField } from "./handlers/fields.ts";
import type { Instruction } from "./instructions.ts";
import type { TaskState, TaskStateName } from "./task-state.ts";
import { transitions } from "./transitions/engine.ts";
import { validateState, validateTask } from "./validate.ts";
import { type WorkerMachineConfig, WorkerState } from "./worker-state.ts";

/**
 * All tasks of one worker. Events go in, instructions come out; mirrors `WorkerState.handle_stimulus`. Values lie in the
 * executor's store: here a task is in memory with its size and type.
 */
export class WorkerMachine {
  readonly #state: WorkerState;
  #failed = false;

  constructor(config: WorkerMachineConfig) {
    this.#state = new WorkerState(config);
  }

  /**
   * Takes one event. `now` is scheduler time in seconds. Never throws: what cannot be (a malformed message, an impossible
   * transition) ends in a `fail` instruction behind the instructions that were reached before it.
   */
  handle(event: WorkerEvent, now: number): Instruction[] {
    const s = this.#state;
    s.instructions = [];
    this.#handle(event, now);
    return s.instructions;
  }

  /** Takes events in order; the instructions of all of them. */
  handleMany(events: readonly WorkerEvent[], now: number): Instruction[] {
    const s = this.#state;
    s.instructions = [];
    for (const event of events) this.#handle(event, now);
    return s.instructions;
  }

  #handle(event: WorkerEvent, now: number): void {
    if (this.#failed) return;
    const s = this.#state;
    s.now = now;
    s.recommendations.resetJournal();
    s.stimulusId = "message" in event ? stimulusField(event.message) : event.stimulusId;
    try {
      handleEvent(s, event);
      if (s.validate) {
        const touched = new Set<TaskState>();
        transitions(s, touched);
        for (const ts of touched) validateTask(s, ts);
      } else {
        transitions(s);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failed = true;
    this.#state.recommendations.clear();
    const reason = error instanceof Error ? error.message : String(error);
    const known = error instanceof InvalidTransition || error instanceof InvalidTaskState;
    this.#state.instructions.push({
      kind: "fail",
      reason,
      topic: known ? error.topic : null,
      message: known ? error.event : null,
      error,
    });
  }

  /** This worker's address. It must be known before the first event. */
  get address(): string {
    return this.#state.address;
  }
  set address(address: string) {
    this.#state.address = address;
  }

  /** Emit `transition` instructions. */
  get reportTransitions(): boolean {
    return this.#state.reportTransitions;
  }
  set reportTransitions(on: boolean) {
    this.#state.reportTransitions = on;
  }

  /** Threads that run tasks; a higher number takes effect when the next task becomes ready or ends. */
  get nthreads(): number {
    return this.#state.nthreads;
  }
  set nthreads(nthreads: number) {
    this.#state.nthreads = nthreads;
  }

  /** False while paused. */
  get running(): boolean {
    return this.#state.running;
  }

  /** There was a `fail` instruction: every further event is ignored. */
  get failed(): boolean {
    return this.#failed;
  }

  /** By `keyId(key)`. */
  get tasks(): ReadonlyMap<string, TaskState> {
    return this.#state.tasks;
  }

  task(key: Key): TaskState | undefined {
    return this.#state.task(key);
  }

  /** Sum of the sizes in memory, bytes. */
  get nbytes(): number {
    return this.#state.nbytes;
  }

  /** Tasks that occupy one of `nthreads`: not the long-running ones, but the cancelled ones. */
  /** Tasks that the executor has beside those that have a thread. */
  get aheadCount(): number {
    return Math.max(0, this.#state.executing.size - this.#state.nthreads);
  }
  get executingCount(): number {
    return this.#state.executing.size;
  }

  get longRunningCount(): number {
    return this.#state.longRunning.size;
  }

  /** Tasks that have ended since the start, however they ended. */
  get executedCount(): number {
    return this.#state.executedCount;
  }

  /** Tasks in state ready (not the constrained ones). */
  get readyCount(): number {
    return this.#state.ready.size;
  }

  get inFlightTasksCount(): number {
    return this.#state.inFlightTasks.size;
  }

  /** `task_counts` of a heartbeat; states without tasks are left out. */
  taskCounts(): Map<TaskStateName, number> {
    return this.#state.counter.byState();
  }

  /** Seconds spent by all tasks per prefix and state since the start; entries without any are left out. */
  cumulativeElapsed(now: number): { prefix: string; state: TaskStateName; seconds: number }[] {
    const out: { prefix: string; state: TaskStateName; seconds: number }[] = [];
    for (const { prefix, state } of this.#state.counter.byPrefixAndState()) {
      const seconds = prefix.elapsed(state, now);
      if (seconds > 0) out.push({ prefix: prefix.name, state, seconds });
    }
    return out;
  }

  /** `executing` of a heartbeat: key and seconds since its start for every task that occupies a thread. */
  executing(now: number): [key: Key, seconds: number][] {
    const out: [Key, number][] = [];
    for (const running of [this.#state.executing, this.#state.longRunning]) {
      for (const ts of running) out.push([ts.key, Math.max(0, now - ts.startTime)]);
    }
    return out;
  }

  /** Bytes of the transfers that are under way. */
  get transferIncomingBytes(): number {
    return this.#state.transferIncomingBytes;
  }
  /** Transfers that are under way. */
  get transferIncomingCount(): number {
    return this.#state.inFlightWorkersCount;
  }
  /** Transfers since the start. */
  get transferIncomingCountTotal(): number {
    return this.#state.transferIncomingCountTotal;
  }

  get totalResources(): ReadonlyMap<string, number> {
    return this.#state.totalResources;
  }
  get availableResources(): ReadonlyMap<string, number> {
    return this.#state.availableResources;
  }

  /** Changes totals, and what is available by the difference. Mirrors `Worker.set_resources`. */
  setResources(resources: ReadonlyMap<string, number>): void {
    const { totalResources, availableResources } = this.#state;
    for (const [resource, quantity] of resources) {
      const total = totalResources.get(resource) ?? 0;
      availableResources.set(resource, (availableResources.get(resource) ?? 0) + quantity - total);
      totalResources.set(resource, quantity);
    }
  }

  /** Log records that name one of these keys or stimulus ids, oldest first (`get_story`). */
  story(keysOrStimuli: readonly Key[]): Value[] {
    return this.#state.story(keysOrStimuli);
  }

  /** For `dump_state`: the fields of `WorkerState._to_dict`; tasks come without those of `exclude`. */
  toDict(exclude: ReadonlySet<Value> = new Set()): Map<Value, Value> {
    return stateToDict(this.#state, exclude);
  }

  /** @throws {Error} where an invariant does not hold. */
  validateState(): void {
    validateState(this.#state);
  }
}
