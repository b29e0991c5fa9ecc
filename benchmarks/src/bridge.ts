/**
 * What a message costs between Node and a Python child: `npx tsx benchmarks/src/bridge.ts`.
 * The child is `packages/protocol/test/bridge/bridge_peer.py`.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findPython, float, type Message, pickled, type PythonChild, spawnPythonChild } from "@dask-ts/protocol";

const peer = join(dirname(fileURLToPath(import.meta.url)), "../../packages/protocol/test/bridge");
const { path: python } = await findPython();

/** Seconds of CPU that a process has used; Linux only, elsewhere NaN. */
function cpuSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return Number.NaN;
  }
}

async function measured(
  child: PythonChild,
  name: string,
  rounds: number,
  per: number,
  round: () => Promise<unknown>,
): Promise<void> {
  for (let i = 0; i < rounds / 10; i++) await round();
  const wall = performance.now();
  const node = process.cpuUsage();
  const python = cpuSeconds(child.pid);
  for (let i = 0; i < rounds; i++) await round();
  const n = rounds * per;
  const us = (ms: number): string => ((ms * 1000) / n).toFixed(1).padStart(8);
  const { user, system } = process.cpuUsage(node);
  console.log(
    `${name.padEnd(44)}${us(performance.now() - wall)}${us((user + system) / 1000)}${us((cpuSeconds(child.pid) - python) * 1000)}`,
  );
}

/** 100 tasks to the child, 100 outcomes back, as the executor does it. */
async function tasks(child: PythonChild, done: { count: number; resolve: () => void }, spec: Message): Promise<void> {
  done.count = 100;
  const all = new Promise<void>((resolve) => {
    done.resolve = resolve;
  });
  for (let i = 0; i < 100; i++) child.send({ ...spec, key: `neg-0123456789abcdef0123456789abcdef-${i}` });
  await all;
}

/** Bytes there and back with no message format at all: what the kernel and both event loops cost. */
async function rawEcho(kind: "socket" | "pipes"): Promise<void> {
  const script =
    kind === "socket"
      ? "import socket\ns = socket.socket(fileno=3)\nwhile (b := s.recv(65536)): s.send(b)"
      : "import os\nwhile (b := os.read(0, 65536)): os.write(1, b)";
  const child = spawn(python, ["-c", script], { stdio: ["pipe", "pipe", "inherit", "pipe"] });
  const out = (kind === "socket" ? child.stdio[3] : child.stdin) as Socket;
  const incoming = (kind === "socket" ? child.stdio[3] : child.stdout) as Socket;
  const bytes = Buffer.alloc(100);
  const round = (): Promise<void> =>
    new Promise((resolve) => {
      incoming.once("data", () => resolve());
      out.write(bytes);
    });
  for (let i = 0; i < 500; i++) await round();
  const start = performance.now();
  for (let i = 0; i < 5000; i++) await round();
  console.log(
    `raw echo of 100 bytes, ${kind.padEnd(20)} ${(((performance.now() - start) * 1000) / 5000).toFixed(1).padStart(8)}`,
  );
  out.end();
  child.kill();
}

console.log(`${"µs each".padEnd(44)}    wall    node  python`);
await rawEcho("socket");
await rawEcho("pipes");
for (const mode of ["thread", "loop"]) {
  const done = { count: 0, resolve: (): void => {} };
  const child = await spawnPythonChild({
    python,
    module: "bridge_peer",
    args: [mode],
    cwd: peer,
    onMessage: () => {
      if (--done.count === 0) done.resolve();
    },
  });
  await measured(child, `${mode}: small request and reply`, 5000, 1, () => child.request("echo", { value: "x" }));
  const spec: Message = {
    op: "task",
    run_id: 1,
    run_spec: pickled(Buffer.alloc(120)),
    dependencies: [],
    annotations: new Map(),
    priority: [0, 1, float(2)],
  };
  await measured(child, `${mode}: a task of 100 in a batch`, 200, 100, () => tasks(child, done, spec));
  const big = pickled(Buffer.from("N."), [new Uint8Array(64 * 2 ** 20)]);
  await measured(child, `${mode}: a MiB of 64 MiB, there and back`, 10, 64, () =>
    child.request("echo", { value: big }),
  );
  await child.close();
}
