/** Reads Prometheus' text format, and what stock shows in it (fixtures/prometheus, written by capture.py there). */
import { readFileSync } from "node:fs";

export interface Family {
  readonly type: string;
  /** Label names; with their values where those are a fixed set. */
  readonly labels: Readonly<Record<string, readonly string[]>>;
}

const FIXED_LABELS: ReadonlySet<string> = new Set(["state", "type", "activity", "cost_multiplier", "generation"]);

/** @throws where a line is neither a comment nor a sample of the family above it. */
export function readFamilies(text: string): Map<string, Family> {
  const families = new Map<string, { type: string; labels: Record<string, string[]> }>();
  let current = "";
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("# HELP ")) continue;
    const type = /^# TYPE (\S+) (gauge|counter|histogram)$/.exec(line);
    if (type !== null) {
      current = type[1] ?? "";
      if (families.has(current)) throw new Error(`${current} is there twice`);
      families.set(current, { type: type[2] ?? "", labels: {} });
      continue;
    }
    const sample = /^([a-z_:][\w:]*)(?:\{(.*)\})? (NaN|[+-]Inf|-?\d[\d.e+-]*)$/i.exec(line);
    const family = families.get(current);
    const name = family?.type === "histogram" ? sample?.[1]?.replace(/_(?:bucket|sum|count)$/, "") : sample?.[1];
    if (sample === null || family === undefined || name !== current) throw new Error(`what is ${line}`);
    for (const [, label = "", value = ""] of (sample[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      family.labels[label] ??= [];
      if (FIXED_LABELS.has(label) && !family.labels[label].includes(value)) family.labels[label].push(value);
    }
  }
  return families;
}

export function stockFamilies(server: "scheduler" | "worker"): Map<string, Family> {
  const path = new URL("../fixtures/prometheus/families.json", import.meta.url);
  const all = JSON.parse(readFileSync(path, "utf8")) as Record<string, Record<string, Family>>;
  return new Map(Object.entries(all[server] ?? {}));
}

/** How a family of stock is missing or other in ours; empty where it is the same. */
export function differences(ours: ReadonlyMap<string, Family>, stock: ReadonlyMap<string, Family>): string[] {
  const found: string[] = [];
  for (const [name, { type, labels }] of stock) {
    const family = ours.get(name);
    if (family === undefined) {
      found.push(`${name} is missing`);
      continue;
    }
    if (family.type !== type) found.push(`${name} is a ${family.type}, not a ${type}`);
    const [wanted, given] = [labels, family.labels].map((one) => Object.keys(one).sort().join());
    if (wanted !== given) found.push(`${name} has the labels ${given}, not ${wanted}`);
    for (const [label, values] of Object.entries(labels)) {
      const missing = values.filter((value) => !family.labels[label]?.includes(value));
      if (missing.length > 0) found.push(`${name} lacks ${label}=${missing.join()}`);
    }
  }
  return found;
}
