/** Merging what the workers' profilers saw (distributed.profile.merge, Scheduler.get_profile_metadata). */
import { asNumber, float, keyId, type Value } from "@dask-ts/protocol";

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
