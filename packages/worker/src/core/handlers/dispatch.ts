/** Every event by its name. Mirrors `WorkerState._handle_event`. */
import { ensureComputing } from "../computing.ts";
import type { WorkerEvent } from "../events.ts";
import type { WorkerState } from "../worker-state.ts";
import { handleCancelCompute, handleComputeTask, handleStealRequest } from "./compute-task.ts";
import {
  handleExecuteFailure,
  handleExecuteSuccess,
  handleRecalled,
  handleReschedule,
  handleSecede,
} from "./execute.ts";
import { keysField } from "./fields.ts";
import {
  handleGatherBusy,
  handleGatherFailure,
  handleGatherNetworkFailure,
  handleGatherSuccess,
  handleRemoveWorker,
  handleRetryBusyWorker,
} from "./gather.ts";
import {
  handleAcquireReplicas,
  handleFindMissing,
  handleFreeKeys,
  handleRefreshWhoHas,
  handleRemoveReplicas,
  handleUpdateData,
} from "./replicas.ts";

/** Lets the event change what it changes directly; recommendations and instructions are left in `s`. */
export function handleEvent(s: WorkerState, event: WorkerEvent): void {
  switch (event.kind) {
    case "compute-task":
      return handleComputeTask(s, event.message);
    case "execute-success":
      return handleExecuteSuccess(s, event);
    case "execute-failure":
      return handleExecuteFailure(s, event);
    case "reschedule":
      return handleReschedule(s, event.key);
    case "recalled":
      return handleRecalled(s, event);
    case "secede":
      return handleSecede(s, event);
    case "free-keys":
      return handleFreeKeys(s, keysField(event.message));
    case "free-keys-rpc":
      return handleFreeKeys(s, event.keys);
    case "remove-replicas":
      return handleRemoveReplicas(s, event.message);
    case "acquire-replicas":
      return handleAcquireReplicas(s, event.message);
    case "refresh-who-has":
      return handleRefreshWhoHas(s, event.message);
    case "steal-request":
      return handleStealRequest(s, event.message);
    case "cancel-compute":
      return handleCancelCompute(s, event.message);
    case "remove-worker":
      return handleRemoveWorker(s, event.message);
    case "gather-success":
      return handleGatherSuccess(s, event);
    case "gather-busy":
      return handleGatherBusy(s, event.worker, event.totalNbytes);
    case "gather-network-failure":
      return handleGatherNetworkFailure(s, event.worker, event.totalNbytes);
    case "gather-failure":
      return handleGatherFailure(s, event);
    case "retry-busy-worker":
      return handleRetryBusyWorker(s, event.worker);
    case "find-missing":
      return handleFindMissing(s);
    case "update-data":
      return handleUpdateData(s, event.entries);
    case "pause":
      s.running = false;
      return;
    case "unpause":
      s.running = true;
      return ensureComputing(s);
  }
}
