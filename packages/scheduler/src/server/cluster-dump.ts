/** Scheduler.dump_cluster_state_to_url: the state of the cluster into a file that the scheduler writes. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { encode, type Message, type Value } from "@dask-ts/protocol";
import { clusterState } from "./cluster-state.ts";
import type { SchedulerContext } from "./context.ts";
import { pythonError } from "./exceptions.ts";
import { listField, stringField } from "./fields.ts";

const SUFFIXES: Readonly<Record<string, string>> = { msgpack: ".msgpack.gz", yaml: ".yaml" };

/**
 * Writes the dump to `url`, with the suffix of its format (distributed.cluster_dump.write_state). Other fields than
 * those of the op are storage options.
 *
 * @throws {PythonError} ValueError for an unknown format; {@link RemoteError} with what fsspec raises.
 */
export async function dumpClusterState(ctx: SchedulerContext, fields: Message): Promise<void> {
  const { url: _url, exclude: _exclude, format: _format, reply: _reply, ...options } = fields;
  const format = stringField(fields, "format");
  const suffix = Object.hasOwn(SUFFIXES, format) ? (SUFFIXES[format] as string) : undefined;
  if (suffix === undefined) {
    throw pythonError("ValueError", `Unsupported format '${format}'. Possible values are 'msgpack' or 'yaml'.`);
  }
  const given = stringField(fields, "url");
  const url = given.endsWith(suffix) ? given : given + suffix;
  const state = await clusterState(ctx, listField(fields, "exclude").map(String));
  const path = localPath(url);
  if (path !== null && format === "msgpack" && Object.keys(options).length === 0) {
    // As fsspec does for files that are written.
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, await promisify(gzip)(encode(state)));
    return;
  }
  // Every other place is fsspec's matter, in the process where user code may have set credentials and changed the
  // directory that a relative path begins at.
  const storage = new Map(Object.entries(options) as [string, Value][]);
  await ctx.pluginHost.call("write-cluster-dump", { state, url, format, options: storage });
}

/** The absolute path that a URL names on this host; null where it names something else. */
function localPath(url: string): string | null {
  const path = url.replace(/^(file|local):\/\//, "");
  return isAbsolute(path) ? path : null;
}
