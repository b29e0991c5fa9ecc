/** Scheduler.restart_workers: nannies kill their worker and start a new one; workers without a nanny are let go. */
import { type Message, TimeoutError, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";
import { isConnectionError } from "./peer-calls.ts";
import { removeWorker } from "./worker-stream.ts";

export interface RestartWorkersRequest {
  /** Addresses; null for all. */
  readonly workers: readonly string[] | null;
  readonly client: string | null;
  /** Seconds. */
  readonly timeout: number;
  readonly waitForWorkers: boolean;
  readonly onError: "raise" | "return";
  readonly stimulusId: string;
}

/** Scheduler.check_worker_ttl: workers that have not been heard of for too long are restarted. */
export async function checkWorkerTtl(ctx: SchedulerContext): Promise<void> {
  const late = ctx.apply((core, now) => core.checkWorkerTtl(now));
  if (late.length === 0) return;
  await restartWorkers(ctx, {
    workers: late,
    client: null,
    timeout: 30,
    waitForWorkers: false,
    onError: "raise",
    stimulusId: `check-worker-ttl-${ctx.now()}`,
  });
}

/** New workers are looked for this often. */
const POLL_MS = 200;

/** @throws {TimeoutError} where not all came back in time and `onError` is `raise`. */
export async function restartWorkers(
  ctx: SchedulerContext,
  request: RestartWorkersRequest,
): Promise<Map<Value, Value>> {
  const { stimulusId, timeout } = request;
  const { workers } = ctx.core.state;
  const before = workers.size;
  const addresses =
    request.workers === null ? [...workers.keys()] : [...new Set(request.workers)].filter((w) => workers.has(w));
  ctx.log.info(
    request.workers === null
      ? `Restarting all workers (stimulus_id='${stimulusId}'`
      : `Restarting ${addresses.length} workers: ${addresses.join(", ")} (stimulus_id='${stimulusId}'`,
  );
  const deadline = ctx.now() + timeout;
  const out = new Map<Value, Value>();
  const nannies = new Map<string, string>();
  const without: string[] = [];
  for (const address of addresses) {
    const nanny = workers.get(address)?.nanny;
    if (nanny) nannies.set(address, nanny);
    else without.push(address);
  }
  if (without.length > 0) {
    ctx.log.warning(`Workers ${without.join(", ")} do not use a nanny and will be terminated without restarting them`);
    for (const address of without) {
      removeWorker(ctx, address, { stimulusId });
      out.set(address, "removed");
    }
  }
  const bad = await killWorkers(ctx, nannies, timeout, stimulusId, out);
  if (bad.length > 0) {
    ctx.log.error(`Workers ${bad.join(", ")} did not shut down within ${timeout}s; force closing`);
    for (const address of bad) removeWorker(ctx, address, { stimulusId });
    if (request.onError === "raise") {
      throw new TimeoutError(
        `${bad.length}/${nannies.size} nanny worker(s) did not shut down within ${timeout}s: ${bad.join(", ")}`,
      );
    }
  }
  logRestart(ctx, addresses, request.client);
  if (!request.waitForWorkers) return out;
  while (ctx.now() < deadline && workers.size < before) await ctx.sleep(POLL_MS);
  if (workers.size >= before) {
    ctx.log.info(`Workers restart finished (stimulus_id='${stimulusId}'`);
    return out;
  }
  const text = missingText(addresses.length, before - workers.size, timeout, without.length);
  if (request.onError === "raise") throw new TimeoutError(text);
  ctx.log.error(text);
  const back = new Set([...workers.values()].map((ws) => ws.nanny));
  for (const [address, nanny] of nannies) if (!back.has(nanny)) out.set(address, "timed out");
  return out;
}

/** @returns workers whose nanny did not answer in time. */
async function killWorkers(
  ctx: SchedulerContext,
  nannies: ReadonlyMap<string, string>,
  timeout: number,
  reason: string,
  out: Map<Value, Value>,
): Promise<string[]> {
  const bad: string[] = [];
  const kill = async (address: string, nanny: string): Promise<void> => {
    try {
      // A comm of its own: the nanny may take long, and closes it afterwards.
      await ctx.pool.call(nanny, "kill", { reason, close: true } satisfies Message, { timeoutMs: timeout * 1000 });
      out.set(address, "OK");
    } catch (error) {
      if (!isConnectionError(error)) throw error;
      bad.push(address);
      out.set(address, "timed out");
    }
  };
  await Promise.all([...nannies].map(([address, nanny]) => kill(address, nanny)));
  return bad;
}

function logRestart(ctx: SchedulerContext, workers: readonly string[], client: string | null): void {
  const event = new Map<Value, Value>([
    ["action", "restart-workers"],
    ["workers", workers],
  ]);
  if (client !== null) ctx.logEvent(client, event);
  ctx.logEvent("all", new Map([...event, ["client", client]]));
}

function missingText(asked: number, missing: number, timeout: number, withoutNanny: number): string {
  const text =
    `Waited for ${asked} worker(s) to reconnect after restarting but, after ${timeout}s, ${missing} have not ` +
    "returned. Consider a longer timeout, or `wait_for_workers=False`.";
  if (withoutNanny === 0) return text;
  return (
    `${text} The ${withoutNanny} worker(s) not using Nannies were just shut down instead of restarted (restart is ` +
    "only possible with Nannies). If your deployment system does not automatically re-launch terminated processes, " +
    "then those workers will never come back, and `Client.restart` will always time out. Do not use `Client.restart` " +
    "in that case."
  );
}
