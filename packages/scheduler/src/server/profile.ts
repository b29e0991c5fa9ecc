/** Asking for what the workers' profilers saw, and merging it (Scheduler.get_profile, distributed.profile.merge). */
import { asNumber, float, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";

export type Profile = ReadonlyMap<Value, Value> | { readonly [field: string]: Value | undefined };

/** `profile.create()` */
export function emptyProfile(): Map<Value, Value> {
  return new Map<Value, Value>([
    ["count", 0],
    ["children", new Map()],
    ["identifier", "root"],
    [
      "description",
      new Map<Value, Value>([
        ["filename", ""],
        ["name", ""],
        ["line_number", 0],
        ["line", ""],
      ]),
    ],
  ]);
}

/** One tree of several: counts of the same frames are added. */
export function mergeProfiles(profiles: readonly Profile[]): Map<Value, Value> {
  const first = profiles[0];
  if (first === undefined) return emptyProfile();
  let count = 0;
  const children = new Map<Value, Profile[]>();
  for (const profile of profiles) {
    count += asNumber(get(profile, "count"), 0);
    const below = get(profile, "children");
    if (!(below instanceof Map)) continue;
    for (const [name, child] of below as ReadonlyMap<Value, Value>) {
      const same = children.get(name);
      if (same === undefined) children.set(name, [child as Profile]);
      else same.push(child as Profile);
    }
  }
  return new Map<Value, Value>([
    ["description", get(first, "description") ?? null],
    ["children", new Map([...children].map(([name, same]) => [name, mergeProfiles(same)]))],
    ["count", count],
    ["identifier", get(first, "identifier") ?? "root"],
  ]);
}

function get(profile: Profile, field: string): Value | undefined {
  return profile instanceof Map
    ? (profile as ReadonlyMap<Value, Value>).get(field)
    : (profile as { readonly [field: string]: Value | undefined })[field];
}

export interface ProfileRequest {
  /** Addresses; default all workers. */
  readonly workers?: readonly string[];
  /** Seconds. */
  readonly start?: Value;
  readonly stop?: Value;
  /** Samples of tasks with this prefix only. */
  readonly key?: Value;
  /** The worker's event loop instead of its tasks. */
  readonly server?: boolean;
  /** Workers that take longer are left out. */
  readonly timeoutMs?: number;
}

/** Profiles by worker; those that do not answer are left out. */
export async function workerProfiles(ctx: SchedulerContext, request: ProfileRequest): Promise<Map<string, Profile>> {
  const { start = null, stop = null, key = null, server = false } = request;
  const fields: Message = { start, stop, key, server };
  const answers = await answersOf(ctx, request.workers, "profile", fields, request.timeoutMs);
  return answers as ReadonlyMap<string, Value> as Map<string, Profile>;
}

/** One profile of several workers. */
export async function collectProfile(ctx: SchedulerContext, request: ProfileRequest): Promise<Map<Value, Value>> {
  return mergeProfiles([...(await workerProfiles(ctx, request)).values()]);
}

/** Scheduler.get_profile_metadata. */
export async function collectProfileMetadata(
  ctx: SchedulerContext,
  request: { readonly workers: readonly string[]; readonly start: Value; readonly stop: Value },
): Promise<Value> {
  const { start, stop } = request;
  const answers = await answersOf(ctx, request.workers, "profile_metadata", { start, stop });
  return mergeProfileMetadata([...answers.values()], ctx.settings.profileCycle);
}

/** Answers by worker, in the order of the workers, of those that gave one. */
async function answersOf(
  ctx: SchedulerContext,
  workers: readonly string[] = [...ctx.core.state.workers.keys()],
  op: string,
  fields: Message,
  timeoutMs?: number,
): Promise<Map<string, Value>> {
  const calls = workers.map((address) => ctx.pool.call(address, op, fields, { timeoutMs }));
  const results = await Promise.allSettled(calls);
  const answers = new Map<string, Value>();
  workers.forEach((address, i) => {
    const result = results[i];
    if (result?.status === "fulfilled") answers.set(address, result.value);
  });
  return answers;
}

type Pair = readonly [time: Value, value: Value];

/** @param cycle seconds of one bin. */
export function mergeProfileMetadata(answers: readonly Value[], cycle: number): Value {
  const bin = (time: Value): number => Math.floor(asNumber(time, 0) / cycle) * cycle;
  const counts = new Map<number, number>();
  const samples: Pair[] = [];
  for (const answer of answers) {
    for (const [time, n] of pairs(answer, "counts"))
      counts.set(bin(time), (counts.get(bin(time)) ?? 0) + asNumber(n, 0));
    samples.push(...pairs(answer, "keys"));
  }
  samples.sort((a, b) => asNumber(a[0], 0) - asNumber(b[0], 0));
  const times = [...new Set(samples.map(([time]) => bin(time)))].filter((time) => time > 0);
  const keys = new Map<string, { readonly key: Value; readonly counts: Map<number, number> }>();
  for (const [time, found] of samples) {
    if (!(found instanceof Map)) continue;
    for (const [key, n] of found as ReadonlyMap<Value, Value>) {
      const entry = keys.get(keyId(key)) ?? { key, counts: new Map<number, number>() };
      keys.set(keyId(key), entry);
      entry.counts.set(bin(time), (entry.counts.get(bin(time)) ?? 0) + asNumber(n, 0));
    }
  }
  return {
    counts: [...counts].sort((a, b) => a[0] - b[0]).map(([time, n]) => [float(time), n]),
    keys: new Map(
      [...keys.values()].map(({ key, counts: seen }) => [key, times.map((time) => [float(time), seen.get(time) ?? 0])]),
    ),
  };
}

function pairs(answer: Value, field: string): readonly Pair[] {
  const list = get(answer as Profile, field);
  return Array.isArray(list) ? (list as unknown as readonly Pair[]) : [];
}
