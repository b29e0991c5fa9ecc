/** What runs beside the scheduler, in the plugin host, and how it is joined to the scheduler. */
import { describeError, findPython, INHERIT_VARIABLE, type RpcHandler, type Value } from "@dask-ts/protocol";
import { PluginHost } from "../plugin-host/plugin-host.ts";
import type { SchedulerContext } from "./context.ts";
import { logChildLine } from "./graph-host-log.ts";
import type { SchedulerOptions } from "./options.ts";
import { SchedulerView } from "./scheduler-view.ts";
import { taskFacts } from "./view-facts.ts";

/** How long the start of a scheduler waits for `dask_setup`. */
const PRELOAD_MS = 10_000;

type Handlers = Record<string, RpcHandler>;

/** @param handlers the table of RPC ops; those of user code are put into it and taken out of it. */
export function makePluginHost(
  ctx: SchedulerContext,
  handlers: () => Handlers,
  python: string | undefined,
): PluginHost {
  const view = new SchedulerView(ctx, handlers);
  const served: Set<string> = new Set();
  const host = new PluginHost({
    core: ctx.core,
    lastFacts: taskFacts,
    python: async () => (await findPython({ python })).path,
    env: { [INHERIT_VARIABLE]: ctx.config.serialize() },
    onLine: (level, line) => logChildLine(ctx.log, level, line),
    onRequest: (op, fields) => view.answer(op, fields),
    onUpload: async (path, load) => await (await ctx.graphHost()).upload(path, load),
    onHandlers: (ops) => serve(ctx, handlers(), served, ops),
  });
  ctx.broker.listen((topic, message) => host.events.logEvent(topic, message));
  return host;
}

/** RPC ops of user code (`scheduler.handlers["op"] = function`); the scheduler's own are not to be replaced. */
function serve(ctx: SchedulerContext, handlers: Handlers, served: Set<string>, ops: readonly string[]): void {
  for (const op of served) {
    if (ops.includes(op)) continue;
    served.delete(op);
    delete handlers[op];
  }
  for (const op of ops) {
    if (served.has(op)) continue;
    if (Object.hasOwn(handlers, op)) {
      ctx.log.warning(`The handler of '${op}' is the scheduler's own; one of user code is not used`);
      continue;
    }
    served.add(op);
    handlers[op] = async (fields) => (await ctx.pluginHost.call("handle", { name: op, fields }))["value"];
  }
}

/**
 * Imports the preload modules that options or configuration name.
 *
 * @throws where one cannot be imported: as in stock, that keeps the scheduler from starting.
 */
export async function importPreloads(ctx: SchedulerContext, options: SchedulerOptions): Promise<void> {
  const given = options.preload ?? [];
  const preload = given.length > 0 ? given : ctx.config.getStrings("distributed.scheduler.preload");
  if (preload.length === 0) return;
  const argv = options.preloadArgv ?? [];
  const preloadArgv: Value = argv.length > 0 ? argv : ctx.config.get("distributed.scheduler.preload-argv");
  await ctx.pluginHost.preload({ preload, preloadArgv, check: given.length > 0 });
}

/** `dask_setup` of the preload modules. One that does not end does not keep the scheduler from serving. */
export async function startPreloads(ctx: SchedulerContext): Promise<void> {
  if (!ctx.pluginHost.running) return;
  const started = ctx.pluginHost.startPreloads().catch((error: unknown) => {
    ctx.log.error(`dask_setup of the preload modules failed: ${describeError(error)}`);
  });
  let cancel: () => void = () => undefined;
  const late = new Promise<void>((resolve) => {
    cancel = ctx.after(PRELOAD_MS, () => {
      ctx.log.warning(`dask_setup of the preload modules takes more than ${PRELOAD_MS / 1000} s`);
      resolve();
    });
  });
  await Promise.race([started, late]);
  cancel();
}
