import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  findPython,
  type Message,
  pickle,
  PyCall,
  PyGlobal,
  RemoteError,
  type Serialized,
  type Value,
} from "@dask-ts/protocol";
import { afterAll, describe, expect, it, vi } from "vitest";
import { HookMark } from "../../src/plugin-host/hook-mark.ts";
import { PluginHost, PreloadUsageError } from "../../src/plugin-host/plugin-host.ts";
import { taskFacts } from "../../src/server/view-facts.ts";
import { TestCore } from "../core/builders.ts";

const START_MS = 120_000;

/** A plugin host with what it said and asked. */
class Probe {
  readonly lines: string[] = [];
  readonly asked: string[] = [];
  readonly uploads: string[] = [];
  handlers: readonly string[] = [];
  readonly host: PluginHost;

  constructor() {
    this.host = new PluginHost({
      core: new TestCore().core,
      lastFacts: taskFacts,
      python: async () => (await findPython()).path,
      env: {},
      onLine: (level, line) => this.lines.push(`${level}: ${line}`),
      onRequest: (op, fields) => Promise.resolve(this.#answer(op, fields)),
      onUpload: (path) => {
        this.uploads.push(path);
        return Promise.resolve();
      },
      onHandlers: (ops) => {
        this.handlers = ops;
      },
    });
  }

  #answer(op: string, { name, keys }: Message): Message {
    this.asked.push(op);
    if (op === "view-facts") return { facts: (keys as Value[]).map(() => new Map<Value, Value>([["nthreads", 1]])) };
    return { value: name === "address" ? "tcp://127.0.0.1:8786" : null };
  }

  /** Runs Python with `dask_scheduler`; a preload module's text is the shortest way. */
  async python(text: string): Promise<void> {
    await this.host.preload({ preload: [`${text}\n`], preloadArgv: [], check: false });
    await this.host.startPreloads();
  }

  async pid(): Promise<string> {
    const reply = await this.host.call("run-function", { function: pickle(new PyGlobal("os", "getpid")), wait: true });
    return Buffer.concat((reply["result"] as Serialized).frames).toString("hex");
  }
}

const PLUGINS = `
import os, time
from distributed import SchedulerPlugin

class Kills(SchedulerPlugin):
    def log_event(self, topic, msg):
        os.kill(os.getpid(), 9)

class Slow(SchedulerPlugin):
    def valid_workers_downscaling(self, scheduler, workers):
        time.sleep(3)
`;

describe("a plugin host", () => {
  const probe = new Probe();
  const { host, lines, asked, uploads } = probe;
  afterAll(() => host.close());

  it("starts when it is needed, and asks the scheduler", { timeout: START_MS }, async () => {
    expect(host.running).toBe(false);
    await host.beforeClose();
    await probe.python("def dask_setup(scheduler):\n    print(scheduler.address, flush=True)");
    expect(host.running).toBe(true);
    expect(asked).toEqual(["view-value"]);
    await vi.waitFor(() => expect(lines.join("\n")).toContain("tcp://127.0.0.1:8786"));
  });

  it("passes on the ops of user code", { timeout: START_MS }, async () => {
    await probe.python("def dask_setup(scheduler):\n    scheduler.handlers['op'] = lambda value: [value, 1]");
    await vi.waitFor(() => expect(probe.handlers).toEqual(["op"]));
    expect(await host.call("handle", { name: "op", fields: { value: 5 } })).toEqual({ value: [5, 1] });
  });

  it("refuses arguments that no preload module takes", { timeout: START_MS }, async () => {
    const wrong = host.preload({ preload: ["import os\n"], preloadArgv: ["--x"], check: true });
    await expect(wrong).rejects.toBeInstanceOf(PreloadUsageError);
    const missing = host.preload({ preload: ["no_such_module"], preloadArgv: [], check: true });
    await expect(missing).rejects.toBeInstanceOf(RemoteError);
  });

  it("lets all workers go where valid_workers_downscaling takes too long", { timeout: START_MS }, async () => {
    await probe.python(`${PLUGINS}\ndef dask_setup(scheduler):\n    scheduler.add_plugin(Slow(), name="slow")`);
    await vi.waitFor(() => expect(host.events.has("valid_workers_downscaling")).toBe(true));
    expect(await host.validWorkers(["a", "b"])).toEqual(new Set(["a", "b"]));
    expect(lines.at(-1)).toContain("took more than 2 s: any worker may go");
    await host.removePlugin("slow");
  });

  it("brings files back after a death, and says which call died", { timeout: START_MS }, async () => {
    await probe.python(
      "async def dask_setup(scheduler):\n    await scheduler.upload_file('brought_back.py', 'def value():\\n    return 3')",
    );
    expect(uploads).toEqual([expect.stringContaining("brought_back.py")]);
    const before = await probe.pid();
    const call = { function: pickle(new PyGlobal("os", "_exit")), args: pickle([7]), wait: true };
    await expect(host.call("run-function", call)).rejects.toThrow("The plugin host could not do run-function");
    expect(lines.join("\n")).toContain("ended with code 7 while function '_exit' was in run_on_scheduler");
    expect(await probe.pid()).not.toBe(before);
    const found = { function: pickle(new PyGlobal("brought_back", "value")), wait: true };
    expect(await host.call("run-function", found)).toMatchObject({ status: "OK" });
  });

  it("ends for good when it is closed", { timeout: START_MS }, async () => {
    const deaths = lines.filter((line) => line.includes("a new one is started")).length;
    await host.close();
    expect(lines.filter((line) => line.includes("a new one is started"))).toHaveLength(deaths);
  });
});

it("takes a plugin that kills it back twice, not a third time", { timeout: 2 * START_MS }, async () => {
  const probe = new Probe();
  const { host, lines } = probe;
  try {
    await probe.python(
      `${PLUGINS}
import sys, types
sys.modules["killing"] = module = types.ModuleType("killing")
Kills.__module__ = "killing"
module.Kills = Kills`,
    );
    await host.addPlugin(pickle(new PyCall(new PyGlobal("killing", "Kills"), [])), "kills", false);
    for (let death = 1; death <= 3; death++) {
      await vi.waitFor(() => expect(host.events.has("log_event")).toBe(true), START_MS);
      host.events.logEvent("topic", 1);
      const wanted = "the plugin host ended by SIGKILL while scheduler plugin 'kills' was in log_event";
      await vi.waitFor(() => expect(lines.filter((line) => line.includes(wanted))).toHaveLength(death), START_MS);
    }
    expect(lines.at(-1)).toContain("left out");
    await probe.pid();
    expect(host.events.has("log_event")).toBe(false);
  } finally {
    await host.close();
  }
});

it("reads what a process was at when it died", () => {
  const path = join(tmpdir(), `dask-ts-mark-${process.pid}`);
  const mark = new HookMark(path);
  expect(mark.read()).toBeUndefined();
  rmSync(path);
  expect(mark.read()).toBeUndefined();
});
