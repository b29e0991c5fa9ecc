/** A scheduler in this process, with stock Python workers and clients as processes of their own. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { loadConfig, type LogRecord } from "@dask-ts/protocol";
import { ForkedScripts } from "../../../protocol/test/support/forked-scripts.ts";
import type { SchedulerOptions } from "../../src/server/options.ts";
import { Scheduler } from "../../src/server/scheduler.ts";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON: string = process.env["DASK_TS_PYTHON"] ?? `${ROOT}.venv/bin/python`;
/** A busy machine takes its time to start Python. */
const START_MS = 120_000;

const ENV = { ...process.env, DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED: "False" };

export class TestCluster {
  readonly scheduler: Scheduler;
  readonly records: LogRecord[];
  readonly #children: Set<ChildProcess> = new Set();
  #scripts: ForkedScripts | undefined;

  private constructor(scheduler: Scheduler, records: LogRecord[]) {
    this.scheduler = scheduler;
    this.records = records;
  }

  static async start(options: SchedulerOptions = {}): Promise<TestCluster> {
    const records: LogRecord[] = [];
    const scheduler = await Scheduler.start({
      host: "127.0.0.1",
      port: 0,
      dashboardAddress: "127.0.0.1:0",
      config: loadConfig({ env: {}, paths: [] }),
      validate: true,
      python: PYTHON,
      log: (record) => records.push(record),
      ...options,
    });
    return new TestCluster(scheduler, records);
  }

  /** Lines of the log at or above a level. */
  lines(level: LogRecord["level"]): string[] {
    return this.records.filter((record) => record.level === level).map((record) => record.message);
  }

  /** Starts a stock worker without a nanny; resolves when it runs. */
  async worker(...args: readonly string[]): Promise<ChildProcess> {
    const before = this.scheduler.core.state.running.size;
    // A client comes next: it starts as the worker does.
    this.#scripts ??= new ForkedScripts(ENV);
    const child = this.#python([
      "-m",
      "distributed.cli.dask_worker",
      this.scheduler.address,
      "--no-nanny",
      "--no-dashboard",
      "--nthreads",
      "1",
      "--host",
      "127.0.0.1",
      ...args,
    ]);
    let stderr = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    await until(() => {
      if (child.exitCode !== null) throw new Error(`the worker ended:\n${stderr}`);
      return this.scheduler.core.state.running.size > before;
    }, "a worker that runs");
    return child;
  }

  /**
   * Runs a stock client's script, with `c` the client and `report(**facts)` at its service.
   *
   * @returns what it reported. @throws with its stderr where it fails.
   */
  async client(script: string): Promise<Record<string, unknown>> {
    const text = `${PRELUDE.replace("ADDRESS", this.scheduler.address)}${indent(dedent(script))}\nprint(json.dumps(facts))\n`;
    this.#scripts ??= new ForkedScripts(ENV);
    const { code, out, err } = await this.#scripts.run(text);
    if (code !== 0) throw new Error(`the client ended with ${code}:\n${err}`);
    return JSON.parse(out.trim().split("\n").at(-1) ?? "null") as Record<string, unknown>;
  }

  async stop(): Promise<void> {
    await this.scheduler.close("test-over");
    await this.#scripts?.stop();
    await Promise.all(
      [...this.#children].map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = new Promise((resolve) => child.once("exit", resolve));
        child.kill("SIGKILL");
        await exited;
      }),
    );
  }

  #python(args: readonly string[]): ChildProcess {
    const child = spawn(PYTHON, args, { stdio: ["ignore", "pipe", "pipe"], env: ENV });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }
}

const PRELUDE = `
import asyncio, json, operator, time
from distributed import Client, wait, progress
facts = {}
report = facts.update
def inc(x): return x + 1
def raises(call):
    try:
        call()
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return None
with Client("ADDRESS", timeout=120) as c:
`;

/** The script as the body of `with Client(...) as c:`. */
function indent(text: string): string {
  return text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}

function dedent(text: string): string {
  const lines = text.replace(/^\n/, "").trimEnd().split("\n");
  const margin = Math.min(
    ...lines.filter((line) => line.trim() !== "").map((line) => line.length - line.trimStart().length),
  );
  return lines.map((line) => line.slice(margin)).join("\n");
}

/** Waits until the condition holds. @throws where it does not come true. */
export async function until(condition: () => boolean, what: string, timeoutMs = START_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
