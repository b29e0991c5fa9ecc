/** Steal requests that wait for the victim's answer (WorkStealing.in_flight), and what they will change. */
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

export interface StealRequest {
  readonly victim: WorkerState;
  readonly thief: WorkerState;
  /** Compute time and transfer, seconds. */
  readonly victimDuration: number;
  readonly thiefDuration: number;
  readonly stimulusId: string;
}

export class InFlight {
  readonly #requests: Map<TaskState, StealRequest> = new Map();
  readonly #occupancy: Map<WorkerState, number> = new Map();
  readonly #tasks: Map<WorkerState, number> = new Map();

  get size(): number {
    return this.#requests.size;
  }

  get(ts: TaskState): StealRequest | undefined {
    return this.#requests.get(ts);
  }

  add(ts: TaskState, request: StealRequest): void {
    this.#requests.set(ts, request);
    this.#shift(request, 1);
  }

  remove(ts: TaskState): StealRequest | undefined {
    const request = this.#requests.get(ts);
    if (request === undefined) return undefined;
    this.#requests.delete(ts);
    if (this.#requests.size === 0) {
      // Nothing is left of rounding either.
      this.#occupancy.clear();
      this.#tasks.clear();
    } else {
      this.#shift(request, -1);
    }
    return request;
  }

  /** Seconds of work that the worker will have more (or less) once all requests are granted. */
  occupancy(ws: WorkerState): number {
    return this.#requests.size === 0 ? 0 : (this.#occupancy.get(ws) ?? 0);
  }

  /** Tasks that the worker will have more (or less). */
  tasks(ws: WorkerState): number {
    return this.#requests.size === 0 ? 0 : (this.#tasks.get(ws) ?? 0);
  }

  [Symbol.iterator](): IterableIterator<[TaskState, StealRequest]> {
    return this.#requests.entries();
  }

  #shift({ victim, thief, victimDuration, thiefDuration }: StealRequest, sign: 1 | -1): void {
    add(this.#occupancy, victim, -sign * victimDuration);
    add(this.#occupancy, thief, sign * thiefDuration);
    add(this.#tasks, victim, -sign);
    add(this.#tasks, thief, sign);
  }
}

function add(map: Map<WorkerState, number>, ws: WorkerState, amount: number): void {
  map.set(ws, (map.get(ws) ?? 0) + amount);
}
