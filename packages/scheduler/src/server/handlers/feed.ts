/**
 * `feed`: stock runs pickled functions inside the scheduler and sends what they return. The functions of progress bars
 * (distributed.diagnostics.progressbar) are recognised and answered from the core; others run in the plugin host.
 */
import {
  type Comm,
  isKey,
  type Key,
  type Message,
  pickle,
  PyCall,
  PyGlobal,
  type RpcHandlers,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";
import type { SchedulerContext } from "../context.ts";
import { isTrue } from "../fields.ts";
import { type GroupBy, Progress } from "../progress.ts";
import { duration } from "./data.ts";

/** Keys of a progress bar that the scheduler does not know yet are looked for this often. */
const POLL_MS = 50;

export function feedHandlers(ctx: SchedulerContext): RpcHandlers {
  return {
    feed: async (fields, { comm }): Promise<typeof TAKEN_OVER> => {
      const interval = duration(fields["interval"] ?? null, 1);
      const progress = await progressOf(ctx, fields);
      if (progress === null) {
        await feedFromPluginHost(ctx, fields, comm, interval);
        return TAKEN_OVER;
      }
      if (!(await known(ctx, progress.keys, comm))) return TAKEN_OVER;
      try {
        await progress.start();
        while (!comm.closed && ctx.status === "running") {
          comm.send(progress.report());
          await ctx.sleep(interval * 1000);
        }
      } finally {
        progress.stop();
      }
      return TAKEN_OVER;
    },
  };
}

/** What any function makes, one message each interval; a peer that reads slowly slows nobody else down. */
async function feedFromPluginHost(ctx: SchedulerContext, fields: Message, comm: Comm, interval: number): Promise<void> {
  const { pluginHost } = ctx;
  const feed = pluginHost.nextFeed();
  const { function: fn = null, setup = null, teardown = null } = fields;
  await pluginHost.call("feed-open", { feed, function: fn, setup, teardown });
  try {
    while (!comm.closed && ctx.status === "running") {
      const { value = null } = await pluginHost.call("feed-next", { feed });
      if (comm.closed) return;
      comm.send(value);
      await comm.drained();
      await ctx.sleep(interval * 1000);
    }
  } catch (error) {
    if (!comm.closed) throw error;
  } finally {
    if (ctx.status === "running") {
      pluginHost.call("feed-close", { feed }).catch((error: unknown) => {
        ctx.log.warning(`The teardown of a feed failed: ${(error as Error).message}`);
      });
    }
  }
}

/** What the setup function of a progress bar would make; null where it is none. */
async function progressOf(ctx: SchedulerContext, fields: Message): Promise<Progress | null> {
  const { setup, function: fn } = fields;
  if (!mentionsProgress(setup) || fn === undefined) return null;
  const host = await ctx.graphHost();
  // A pickle whose value is what `classify_feed` says of the two functions.
  const question = pickle(new PyCall(new PyGlobal("dask_ts.feed", "classify_feed"), [setup]));
  const { value } = await host.call("open-pickle-plain", { data: question });
  if (!(value instanceof Map)) return null;
  const facts = value as ReadonlyMap<Value, Value>;
  const keys = (facts.get("keys") ?? []) as readonly Value[];
  const complete = isTrue(facts.get("complete") ?? false);
  const groupBy = groupByOf(facts.get("group_by") ?? null, async (wanted) => {
    const call = new PyCall(new PyGlobal("dask_ts.feed", "group_keys"), [setup, wanted]);
    const reply = await host.call("open-pickle-plain", { data: pickle(call) });
    return (reply["value"] ?? []) as readonly Value[];
  });
  return new Progress(ctx.core, keys.filter(isKey), complete, groupBy);
}

const MARK = Buffer.from("distributed.diagnostics.progressbar");

/** No evaluation: the closure's module is in its pickle as plain text. */
function mentionsProgress(setup: Value | undefined): setup is Uint8Array {
  return setup instanceof Uint8Array && Buffer.from(setup.buffer, setup.byteOffset, setup.byteLength).includes(MARK);
}

function groupByOf(name: Value, ask: (keys: readonly Key[]) => Promise<readonly Value[]>): GroupBy {
  if (name === "prefix" || name === "spans") return name;
  return name === null ? null : ask;
}

/** Waits until the scheduler knows all the keys; false where the peer went away before. */
async function known(ctx: SchedulerContext, keys: readonly Key[], comm: Comm): Promise<boolean> {
  for (;;) {
    if (keys.every((key) => ctx.core.state.taskOf(key as Value) !== undefined)) return true;
    await ctx.sleep(POLL_MS);
    if (comm.closed) return false;
  }
}
