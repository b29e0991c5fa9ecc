/** The plots' data, as small as JSON allows: the report's script draws them. */
import { asNumber, formatKey, isKey, keySplit, type Value } from "@dask-ts/protocol";

/** Frames below this share of all samples are not visible, and left out. */
const LEAST_SHARE = 0.0005;

export interface TaskPlot {
  /** Seconds since the epoch of the earliest action. */
  readonly begin: number;
  /** Worker and thread of each row. */
  readonly rows: readonly string[];
  readonly names: readonly string[];
  readonly actions: readonly string[];
  readonly keys: readonly string[];
  /** Five numbers each: row, name, action, start and length in microseconds since `begin`; 1 added for an error. */
  readonly rectangles: readonly (readonly number[])[];
}

/** distributed.diagnostics.task_stream.rectangles. */
export function taskRectangles(records: readonly Value[]): TaskPlot {
  const rows = new Numbers();
  const names = new Numbers();
  const actions = new Numbers();
  const keys: string[] = [];
  const found: { readonly numbers: [number, number, number]; readonly span: [number, number]; readonly ok: boolean }[] =
    [];
  let begin = Number.POSITIVE_INFINITY;
  for (const record of records) {
    if (!(record instanceof Map)) continue;
    const key = record.get("key") as Value;
    const startstops = record.get("startstops");
    if (!Array.isArray(startstops) || !isKey(key)) continue;
    const row = rows.of(`${String(record.get("worker"))}-${String(record.get("thread"))}`);
    const name = names.of(keySplit(key));
    const ok = record.get("status") === "OK";
    for (const startstop of startstops as readonly Value[]) {
      if (!(startstop instanceof Map)) continue;
      const start = asNumber(startstop.get("start"), 0);
      const stop = asNumber(startstop.get("stop"), 0);
      begin = Math.min(begin, start);
      found.push({ numbers: [row, name, actions.of(String(startstop.get("action")))], span: [start, stop], ok });
      keys.push(formatKey(key));
    }
  }
  const micros = (time: number): number => Math.round(time * 1e6);
  return {
    begin: Number.isFinite(begin) ? begin : 0,
    rows: rows.texts,
    names: names.texts,
    actions: actions.texts,
    keys,
    rectangles: found.map(({ numbers, span: [start, stop], ok }) => {
      const rectangle = [...numbers, micros(start - begin), micros(stop - start)];
      return ok ? rectangle : [...rectangle, 1];
    }),
  };
}

/** A frame: its text, where it is, samples, and the frames that it called. */
export type ProfileNode = readonly [name: string, place: string, count: number, children: readonly ProfileNode[]];

/** A profile tree without what is too small to be seen. */
export function profileNode(tree: ReadonlyMap<Value, Value>, total: number = countOf(tree)): ProfileNode {
  const description = tree.get("description");
  const field = (name: string): string =>
    description instanceof Map ? String((description as ReadonlyMap<Value, Value>).get(name) ?? "") : "";
  const below = tree.get("children");
  const children = below instanceof Map ? [...(below as ReadonlyMap<Value, Value>).values()] : [];
  const place = field("filename") === "" ? "" : `${field("filename")}:${field("line_number")}  ${field("line").trim()}`;
  return [
    field("name"),
    place,
    countOf(tree),
    children
      .filter((child): child is ReadonlyMap<Value, Value> => child instanceof Map)
      .filter((child) => countOf(child) >= LEAST_SHARE * total)
      .map((child) => profileNode(child, total)),
  ];
}

function countOf(tree: ReadonlyMap<Value, Value>): number {
  return asNumber(tree.get("count"), 0);
}

/** Texts by number, in order of first use. */
class Numbers {
  readonly texts: string[] = [];
  readonly #numbers: Map<string, number> = new Map();

  of(text: string): number {
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = this.texts.push(text) - 1;
      this.#numbers.set(text, number);
    }
    return number;
  }
}
