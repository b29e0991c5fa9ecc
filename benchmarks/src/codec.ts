/**
 * Time of our decoder and encoder per message, over batches made of captured messages:
 *
 *     npx tsx --conditions=source benchmarks/src/codec.ts [module that has msgpack's encode and decode]
 *
 * A module given as the argument (@msgpack/msgpack, installed anywhere) is measured on the same frame 0.
 */
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { decodeMessage, encodeMessage, FrameSplitter, joinFrames, type Message } from "@dask-ts/protocol";

const FIXTURES = new URL("../../packages/protocol/test/fixtures/", import.meta.url);
const BATCH = 100;
const WARM_UP = 100_000;

/** The first element of a captured batch that has this op. */
function captured(fixture: string, op: string): Message {
  let found: Message | undefined;
  const splitter = new FrameSplitter((frames) => {
    const batch = decodeMessage(frames) as Message[];
    found = batch.find((message) => message["op"] === op);
  });
  splitter.push(readFileSync(new URL(`${fixture}.bin`, FIXTURES)));
  if (found === undefined) throw new Error(`${fixture} has no ${op}`);
  return found;
}

/** As a cluster sends it: every key and stimulus another one. */
function batchOf(message: Message): Message[] {
  return Array.from({ length: BATCH }, (_, i) => {
    const id = (0x1234567 * (i + 1)).toString(16).padStart(12, "0");
    return { ...message, key: `inc-${id}${id}`, stimulus_id: `task-finished-1795256290.${id}` };
  });
}

function measure(name: string, perRun: number, run: () => void): void {
  for (let i = 0; i < WARM_UP / perRun; i++) run();
  // Short rounds, and the best of them: what a busy machine adds is left out.
  let best = Infinity;
  const runs = Math.ceil(1000 / perRun);
  for (let round = 0; round < 300; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < runs; i++) run();
    best = Math.min(best, Number(process.hrtime.bigint() - start) / runs);
  }
  console.log(`${name.padEnd(52)} ${(best / perRun / 1000).toFixed(2).padStart(7)} µs`);
}

interface Msgpack {
  encode(value: unknown): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

const other = process.argv[2];
const msgpack = other === undefined ? undefined : ((await import(pathToFileURL(other).href)) as Msgpack);

const cases: [string, string][] = [
  ["task-finished", "task-finished"],
  ["compute-task", "compute-task"],
  ["compute-task-dependency", "compute-task"],
];
for (const [fixture, op] of cases) {
  const batch = batchOf(captured(fixture, op));
  const frames = encodeMessage(batch);
  const stream = Buffer.concat(joinFrames(frames));
  measure(`${fixture}: decode`, BATCH, () => decodeMessage(frames));
  measure(`${fixture}: split and decode`, BATCH, () => {
    new FrameSplitter((received) => decodeMessage(received)).push(stream);
  });
  const message = decodeMessage(frames);
  measure(`${fixture}: encode`, BATCH, () => encodeMessage(message));
  measure(`${fixture}: encode and join`, BATCH, () => joinFrames(encodeMessage(message)));
  const [single] = batch as [Message];
  const alone = encodeMessage([single]);
  measure(`${fixture}: decode, batch of one`, 1, () => decodeMessage(alone));
  measure(`${fixture}: encode, batch of one`, 1, () => encodeMessage([single]));
  if (msgpack !== undefined) {
    const document = frames[0]!;
    const plain = msgpack.decode(document);
    measure(`${fixture}: frame 0, decode with the other`, BATCH, () => msgpack.decode(document));
    measure(`${fixture}: frame 0, encode with the other`, BATCH, () => msgpack.encode(plain));
  }
}
