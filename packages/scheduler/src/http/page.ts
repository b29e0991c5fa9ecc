/** What the pages of the scheduler have in common. */
import { formatKey, type Key, link } from "@dask-ts/protocol";

/** Paths below the prefix, and what the links to them say. */
export const NAVIGATION: readonly (readonly [path: string, text: string])[] = [
  ["status", "Status"],
  ["info/main/workers.html", "Workers"],
  ["info/main/exceptions.html", "Exceptions"],
  ["info/main/logs.html", "Logs"],
  ["json/index.html", "JSON"],
  ["metrics", "Metrics"],
];

/** @param up from the page to the prefix: `../../` */
export function taskLink(key: Key, up: string): string {
  const text = formatKey(key);
  return link(`${up}info/task/${encodeURIComponent(text)}.html`, text);
}

export function workerLink(address: string, up: string): string {
  return link(`${up}info/worker/${encodeURIComponent(address)}.html`, address);
}

/** Seconds as people read them (dask.utils.format_time). */
export function formatSeconds(seconds: number): string {
  if (seconds > 2 * 86_400) return `${Math.floor(seconds / 86_400)}d ${Math.floor((seconds % 86_400) / 3600)}h`;
  if (seconds > 2 * 3600) return `${Math.floor(seconds / 3600)}h ${Math.floor((seconds % 3600) / 60)}m`;
  if (seconds > 10 * 60) return `${Math.floor(seconds / 60)}m ${Math.floor(seconds % 60)}s`;
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  if (seconds >= 1e-3) return `${(seconds * 1e3).toFixed(2)} ms`;
  return `${(seconds * 1e6).toFixed(2)} us`;
}
