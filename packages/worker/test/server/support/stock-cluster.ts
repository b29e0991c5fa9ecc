/** A stock scheduler, stock workers, and scripts with a stock client, each in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ForkedScripts } from "../../../../protocol/test/support/forked-scripts.ts";

const ROOT = fileURLToPath(new URL("../../../../../", import.meta.url));
export const PYTHON: string = process.env["DASK_TS_PYTHON"] ?? join(ROOT, ".venv/bin/python");

const START_TIMEOUT_MS = 120_000;

export class StockCluster {
  readonly #children: ChildProcess[] = [];
  readonly #scripts: ForkedScripts = new ForkedScripts();
  readonly #scratch: string = mkdtempSync(join(tmpdir(), "dask-ts-test-"));
  address = "";

  static async start(): Promise<StockCluster> {
    const cluster = new StockCluster();
    const args = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"];
    cluster.address = await cluster.#spawn([...args, "--dashboard-address", ":0"], /Scheduler at:\s+(\S+)/);
    return cluster;
  }

  /** The directory for scratch spaces of this test. */
  get scratch(): string {
    return this.#scratch;
  }

  /** Starts a stock worker without a nanny; its address. */
  startWorker(name: string): Promise<string> {
    const args = ["-m", "distributed.cli.dask_worker", this.address, "--name", name, "--nthreads", "1", "--no-nanny"];
    const memory = ["--memory-limit", "2GB", "--local-directory", this.#scratch, "--no-dashboard"];
    return this.#spawn([...args, ...memory], /Start worker at:\s+(\S+)[^]*Registered to/);
  }

  /** Runs a script with `c`, a client, and `emit`, whose argument it returns; the text after it fails the test. */
  async client<T = unknown>(script: string, args: readonly string[] = []): Promise<T> {
    const { code, out, err } = await this.#scripts.run(PRELUDE + script, [this.address, ...args]);
    const line = out.split("\n").find((text) => text.startsWith("EMIT "));
    if (code !== 0 || line === undefined) throw new Error(`the client script ended with ${code}:\n${out}${err}`);
    return JSON.parse(line.slice("EMIT ".length)) as T;
  }

  async stop(): Promise<void> {
    await this.#scripts.stop();
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((done) => child.once("exit", done));
      child.kill("SIGKILL");
      await gone;
    }
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #spawn(args: readonly string[], ready: RegExp): Promise<string> {
    const child = spawn(PYTHON, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#children.push(child);
    return new Promise((resolve, reject) => {
      let text = "";
      const timer = setTimeout(() => reject(new Error(`${args.join(" ")} does not start:\n${text}`)), START_TIMEOUT_MS);
      const fail = (): void => reject(new Error(`${args.join(" ")} ended:\n${text}`));
      child.once("exit", fail);
      child.stderr?.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        const match = ready.exec(text);
        if (match?.[1] === undefined) return;
        clearTimeout(timer);
        child.off("exit", fail);
        resolve(match[1]);
      });
    });
  }
}

const PRELUDE = `
import json, os, sys, time
from distributed import Client, wait
c = Client(sys.argv[1], timeout=120)
args = sys.argv[2:]
def emit(value):
    print("EMIT " + json.dumps(value, default=str), flush=True)
    os._exit(0)
`;
