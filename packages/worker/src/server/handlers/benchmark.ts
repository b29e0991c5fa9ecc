/** benchmark_disk, benchmark_memory, benchmark_network: bytes per second by size of the piece (distributed.worker). */
import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { float, type RpcHandlers, serializedBytes, type Value } from "@dask-ts/protocol";
import type { WorkerServices } from "./services.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** The size as the caller sees it, in bytes, and how long to measure. */
type Piece = readonly [name: string, nbytes: number];

const DISK: readonly Piece[] = [
  ["1 kiB", KIB],
  ["100 kiB", 100 * KIB],
  ["1 MiB", MIB],
  ["10 MiB", 10 * MIB],
  ["100 MiB", 100 * MIB],
];
const MEMORY: readonly Piece[] = [
  ["2 kiB", 2 * KIB],
  ["10 kiB", 10 * KIB],
  ["100 kiB", 100 * KIB],
  ["1 MiB", MIB],
  ["10 MiB", 10 * MIB],
];
const NETWORK: readonly Piece[] = [
  ["1 kiB", KIB],
  ["10 kiB", 10 * KIB],
  ["100 kiB", 100 * KIB],
  ["1 MiB", MIB],
  ["10 MiB", 10 * MIB],
  ["50 MiB", 50 * MIB],
];
/** Files that are written to in turn. */
const DISK_FILES = 100;

export function benchmarkHandlers(worker: WorkerServices): RpcHandlers {
  return {
    benchmark_disk: () => benchmarkDisk(worker.localDirectory),
    benchmark_memory: () => benchmarkMemory(),
    benchmark_network: (fields) => {
      const { address } = fields;
      if (typeof address !== "string") throw new TypeError("benchmark_network needs the address of a worker");
      return benchmarkNetwork(worker, address);
    },
  };
}

async function benchmarkDisk(root: string): Promise<Value> {
  return measure(DISK, 1, async (data, repeat) => {
    const directory = await mkdtemp(join(root, "benchmark-"));
    try {
      await repeat(async () => {
        const file = await open(join(directory, String(Math.floor(Math.random() * DISK_FILES))), "a");
        try {
          await file.write(data);
          await file.sync();
        } finally {
          await file.close();
        }
        return data.byteLength;
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
}

async function benchmarkMemory(): Promise<Value> {
  return measure(MEMORY, 0.2, async (data, repeat) => {
    const copy = Buffer.allocUnsafe(data.byteLength);
    await repeat(async () => {
      // A slice of some megabytes at a time, then the event loop's turn: a worker that is measured still works.
      const rounds = Math.max(1, Math.floor((4 * MIB) / data.byteLength));
      for (let i = 0; i < rounds; i++) copy.set(data);
      await new Promise((done) => setImmediate(done));
      return rounds * data.byteLength;
    });
  });
}

async function benchmarkNetwork(worker: WorkerServices, address: string): Promise<Value> {
  return measure(NETWORK, 1, async (bytes, repeat) => {
    const data = serializedBytes(bytes);
    await repeat(async () => {
      await worker.callPeer(address, "echo", { data });
      return bytes.byteLength * 2;
    });
  });
}

type Repeat = (once: () => Promise<number>) => Promise<void>;

/** Runs each piece for `seconds`; `once` returns the bytes it has moved. */
async function measure(
  pieces: readonly Piece[],
  seconds: number,
  run: (data: Buffer, repeat: Repeat) => Promise<void>,
): Promise<Value> {
  const out = new Map<Value, Value>();
  for (const [name, nbytes] of pieces) {
    await run(randomBytes(nbytes), async (once) => {
      const start = performance.now();
      let total = 0;
      while (performance.now() < start + seconds * 1000) total += await once();
      out.set(name, float(total / ((performance.now() - start) / 1000)));
    });
  }
  return out;
}
