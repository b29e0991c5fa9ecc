import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type PythonChild, spawnPythonChild } from "../../src/bridge/bridge.ts";
import { findPython } from "../../src/bridge/find-python.ts";
import { ForkServer } from "../../src/bridge/fork-server.ts";
import type { LaunchOptions } from "../../src/bridge/launch.ts";

const here = dirname(fileURLToPath(import.meta.url));
let python = "";
const servers: ForkServer[] = [];

beforeAll(async () => {
  python = (await findPython()).path;
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function startServer(module = "bridge_peer"): Promise<ForkServer> {
  const server = await ForkServer.start({ python, module, env: { PYTHONPATH: here, OF_THE_SERVER: "1" } });
  servers.push(server);
  return server;
}

function fork(
  server: ForkServer,
  hooks: Partial<Parameters<typeof spawnPythonChild>[0]> = {},
  changes: Pick<LaunchOptions, "env" | "cwd"> = {},
): Promise<PythonChild> {
  const launch = () => server.fork(changes);
  return spawnPythonChild({ python, module: "bridge_peer", launch, ...hooks });
}

const parentOf = (pid: number): number =>
  Number(/PPid:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

describe("a fork server", () => {
  it("forks children that answer, each over its own connections", async () => {
    const server = await startServer();
    const lines: string[][] = [[], []];
    const children = await Promise.all(
      lines.map((found) => fork(server, { onLine: (stream, line) => found.push(`${stream}: ${line}`) })),
    );
    expect(new Set(children.map((child) => child.pid)).size).toBe(2);
    expect(parentOf(children[0]?.pid ?? 0)).toBe(parentOf(children[1]?.pid ?? 0));
    for (const child of children) expect((await child.request("echo", { value: child.pid })).value).toBe(child.pid);
    await children[1]?.request("print", {});
    await vi.waitFor(() => expect(lines).toEqual([[], ["stdout: to stdout", "stderr: to stderr"]]));
    await Promise.all(children.map((child) => child.close()));
  });

  it("tells the end of a child whose own child lives on with its output", async () => {
    const child = await fork(await startServer());
    await expect(child.request("leave", { code: 7 })).rejects.toThrow("ended with code 7");
  });

  it("gives a child its changes of the environment, and its directory", async () => {
    const server = await startServer();
    const child = await fork(server, {}, { env: { OF_THE_CHILD: "2", OF_THE_SERVER: undefined }, cwd: here });
    const { value } = await child.request("environ", {
      names: ["OF_THE_CHILD", "OF_THE_SERVER", "DASK_TS_PARENT_PID"],
    });
    expect(value).toEqual(["2", null, null]);
    expect(readlinkSync(`/proc/${child.pid}/cwd`)).toBe(here);
    await child.close();
  });

  it("tells how a child ended, and goes on with the others", async () => {
    const server = await startServer();
    const ends: unknown[] = [];
    const onExit = (...end: unknown[]): void => void ends.push(end);
    const [exits, killed, stays] = await Promise.all([
      fork(server, { onExit }),
      fork(server, { onExit }),
      fork(server),
    ]);
    await expect(exits.request("exit", { code: 3 })).rejects.toThrow("ended with code 3");
    killed.kill();
    await vi.waitFor(() => expect(ends).toHaveLength(2));
    expect(ends).toEqual([
      [3, null],
      [null, "SIGKILL"],
    ]);
    expect((await stays.request("echo", { value: 1 })).value).toBe(1);
    await stays.close();
    const another = await fork(server);
    await another.close();
    expect(another.alive).toBe(false);
  });

  it("takes its children with it when it is killed", async () => {
    const server = await startServer();
    const onExit = vi.fn();
    const child = await fork(server, { onExit });
    process.kill(parentOf(child.pid), "SIGKILL");
    await vi.waitFor(() => expect(onExit).toHaveBeenCalledExactlyOnceWith(null, "SIGKILL"));
    await vi.waitFor(() => expect(existsSync(`/proc/${child.pid}/fd/1`)).toBe(false));
    expect(server.alive).toBe(false);
    await expect(server.fork({})).rejects.toThrow("fork server is gone");
  });

  it("says why its module cannot be imported", async () => {
    await expect(startServer("no_such_module_at_all")).rejects.toThrow("No module named 'no_such_module_at_all'");
  });
});
