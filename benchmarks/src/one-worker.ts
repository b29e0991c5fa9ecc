/** What a scheduler says to the one worker that it is there for: it takes its registration and its heartbeats. */
import {
  BatchedSend,
  float,
  isMessage,
  listen,
  type Message,
  type RpcHandlers,
  serveComm,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";

/** The scheduler's own interval of sending (distributed.batched). */
const BATCH_MS = 2;

export interface OneWorker {
  readonly stream: BatchedSend;
  readonly address: string;
}

export interface WorkerEvents {
  /** Seconds that the worker is told to leave between two heartbeats. */
  readonly heartbeatS: number;
  onHeartbeat?(): void;
  /** Each message of the worker's stream but `task-erred`, which is thrown. */
  onMessage(message: Message): void;
}

/** Listens, and prints the address. @returns the first worker that comes. */
export async function takeOneWorker(name: string, events: WorkerEvents): Promise<OneWorker> {
  let registered: (worker: OneWorker) => void = () => {};
  const worker = new Promise<OneWorker>((resolve) => {
    registered = resolve;
  });
  const answer = (): Message => ({
    status: "OK",
    time: float(Date.now() / 1000),
    "heartbeat-interval": float(events.heartbeatS),
  });
  const handlers: RpcHandlers = {
    "register-worker": (fields, { comm }) => {
      comm.send({ ...answer(), "worker-plugins": new Map() });
      comm.listen((batch) => {
        for (const message of batch as readonly Value[]) {
          if (!isMessage(message)) continue;
          if (message["op"] === "task-erred") throw new Error(`a task erred: ${String(message["exception_text"])}`);
          events.onMessage(message);
        }
      });
      registered({ stream: new BatchedSend(comm, BATCH_MS), address: String(fields["address"]) });
      return TAKEN_OVER;
    },
    heartbeat_worker: () => {
      events.onHeartbeat?.();
      return answer();
    },
    unregister: () => null,
  };
  const listener = await listen("tcp://127.0.0.1:0", {
    onComm: (comm) => void serveComm(comm, handlers, { name }),
  });
  console.log(listener.contactAddress);
  return worker;
}

export function computeTask(key: string, runSpec: Value, runId: number, priority: readonly number[]): Message {
  return {
    op: "compute-task",
    key,
    run_id: runId,
    priority: [...priority],
    stimulus_id: `compute-${key}`,
    who_has: new Map(),
    nbytes: new Map(),
    run_spec: runSpec,
    resource_restrictions: null,
    actor: false,
    annotations: new Map(),
    span_id: "00000000-0000-0000-0000-000000000000",
  };
}
