/** Families that stock does not have: `dask_ts_*`. */
import { EventLoopMeter, type MetricsText } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";

export function writeOwnMetrics(ctx: SchedulerContext, out: MetricsText): void {
  const { measures } = ctx;
  const loop = EventLoopMeter.get();
  out.histogram("dask_ts_event_loop_lag_seconds", "How much later than due the event loop came round", [{}, loop.lag]);
  out.histogram(
    "dask_ts_message_batch_seconds",
    "Time of handling one batch of messages of a stream, by who sent it",
    [{ peer: "worker" }, measures.workerBatch],
    [{ peer: "client" }, measures.clientBatch],
  );
  out.histogram(
    "dask_ts_call_seconds",
    "Time from a call until its reply, by op",
    ...[...measures.calls].sort(([a], [b]) => (a < b ? -1 : 1)).map(([op, calls]) => [{ op }, calls] as const),
  );
  out.histogram("dask_ts_graph_intake_seconds", "Time from the arrival of a graph until its tasks are known", [
    {},
    measures.graphSeconds,
  ]);
  out.histogram("dask_ts_graph_intake_tasks", "Number of tasks of a graph", [{}, measures.graphTasks]);
}
