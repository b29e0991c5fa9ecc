/** Graphs opened by the graph host and by the reader, compared task by task. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { inspect, isDeepStrictEqual } from "node:util";
import {
  decode,
  decodeSubHeader,
  encode,
  type Key,
  keyId,
  type Message,
  pickled,
  Serialized,
  type Value,
} from "@dask-ts/protocol";
import { expect } from "vitest";
import type { Graph } from "../../src/core/graph.ts";
import type { GraphHost, OpenGraphRequest } from "../../src/graph-host/graph-host.ts";
import type { GraphPickles, GraphReading } from "../../src/graph-reader/index.ts";

export const here: string = dirname(fileURLToPath(import.meta.url));

export interface GraphRecord {
  readonly label: string;
  readonly request: OpenGraphRequest;
}

/** A record of `generate_graphs.py`. */
export function graphRecord(bytes: Uint8Array): GraphRecord {
  const fields = decode(bytes) as Message;
  const field = (name: string): Value => pickled(fields[name] as Uint8Array);
  return {
    label: `${fields["label"]} ${fields["number"] ?? ""}`,
    request: {
      exprSer: new Serialized(fields["header"] as Uint8Array, fields["frames"] as Uint8Array[]),
      keys: fields["keys"] as Key[],
      annotations: field("annotations"),
      code: field("code"),
      spanMetadata: field("span_metadata"),
    },
  };
}

/** The messages of a stream of uint32 lengths and bytes. */
export async function* lengthPrefixed(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0);
      yield rest.subarray(4, end);
      rest = rest.subarray(end);
    }
  }
}

export function readNow(pickles: GraphPickles, request: OpenGraphRequest): GraphReading {
  const steps = pickles.read(request, true);
  for (let step = steps.next(); ; step = steps.next()) if (step.done) return step.value;
}

/** As a scheduler would: what is new is learned from the graph host. */
export function readLearned(pickles: GraphPickles, request: OpenGraphRequest): GraphReading {
  const reading = readNow(pickles, request);
  if ("graph" in reading || reading.names.length === 0) return reading;
  pickles.known.learn(reading.names);
  return readNow(pickles, request);
}

/** A Python that compares run_specs. */
export class RunSpecComparison {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #interface: Interface;

  constructor(python: string) {
    this.#child = spawn(python, [join(here, "compare_run_specs.py")], { stdio: ["pipe", "pipe", "inherit"] });
    this.#interface = createInterface(this.#child.stdout);
    this.#lines = this.#interface[Symbol.asyncIterator]();
  }

  /** Differences between the tasks of two graphs, which list the same keys. */
  async differences(a: Graph, b: Graph): Promise<string[]> {
    const place = new Map(b.ids.map((id, i) => [id, i]));
    const pairs = a.ids.map((id, i) => [...specOf(a, i), ...specOf(b, place.get(id)!)]);
    const bytes = encode(pairs);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(bytes.length);
    this.#child.stdin.write(head);
    this.#child.stdin.write(bytes);
    const line = await this.#lines.next();
    if (line.done) throw new Error("the comparison ended");
    return JSON.parse(line.value) as string[];
  }

  close(): void {
    this.#child.stdin.end();
    this.#interface.close();
  }
}

function specOf(graph: Graph, i: number): [Uint8Array, Uint8Array[]] {
  const spec = graph.runSpecs[i]!;
  const header = decodeSubHeader(spec.header);
  expect(header.get("num-sub-frames")).toBe(spec.frames.length);
  expect(header.get("compression")).toEqual(spec.frames.map(() => null));
  return [header.get("pickled-obj") as Uint8Array, [...spec.frames]];
}

/** A graph without its pickles, in an order that does not matter. */
function outline(graph: Graph): unknown {
  const idOf = (n: number): string => graph.ids[n] ?? graph.externalIds[n - graph.ids.length]!;
  const used = new Set(graph.dependencies.flat().filter((n) => n >= graph.ids.length));
  expect(used.size).toBe(graph.externalIds.length);
  expect(graph.keys.map((key) => keyId(key))).toEqual(graph.ids);
  expect(graph.externalKeys.map((key) => keyId(key))).toEqual(graph.externalIds);
  return {
    tasks: Object.fromEntries(
      graph.ids.map((id, i) => {
        const set = graph.annotationOf?.[i] ?? -1;
        return [
          id,
          // Of keys that Python calls equal (0 and False) either may be there.
          {
            dependencies: graph.dependencies[i]!.map(idOf).toSorted(),
            flags: graph.flags[i],
            annotations: set < 0 ? null : graph.annotationSets[set],
          },
        ];
      }),
    ),
    code: graph.code,
    spanMetadata: graph.spanMetadata,
  };
}

export interface Counts {
  native: number;
  host: number;
  readonly reasons: Map<string, number>;
  /** Where reader and graph host disagree. */
  readonly problems: string[];
}

export async function compare(
  record: GraphRecord,
  host: GraphHost,
  pickles: GraphPickles,
  comparison: RunSpecComparison,
  counts: Counts,
): Promise<void> {
  const reading = readLearned(pickles, record.request);
  if (!("graph" in reading)) {
    counts.host++;
    counts.reasons.set(reading.notKnown, (counts.reasons.get(reading.notKnown) ?? 0) + 1);
    return;
  }
  counts.native++;
  try {
    const opened = await host.openGraph(record.request);
    const [native, expected] = [outline(reading.graph), outline(opened)];
    if (!isDeepStrictEqual(native, expected))
      counts.problems.push(`${record.label}: ${inspect({ native, expected }, false, 9)}`);
    else {
      const found = await comparison.differences(reading.graph, opened);
      if (found.length > 0) counts.problems.push(`${record.label}: ${found.join("; ")}`);
    }
  } catch (error) {
    counts.problems.push(`${record.label}: ${(error as Error).message}`);
  }
}
