import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type PythonChild, spawnPythonChild } from "../../src/bridge/bridge.ts";
import { findPython } from "../../src/bridge/find-python.ts";
import { Float, type Message, Pickled } from "../../src/msgpack/value.ts";
import { pickled, serializedMsgpack } from "../../src/serialize.ts";

const here = dirname(fileURLToPath(import.meta.url));
let python = "";
const children: PythonChild[] = [];

beforeAll(async () => {
  python = (await findPython()).path;
});
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.close(2000)));
});

async function start(mode: string, hooks: Partial<Parameters<typeof spawnPythonChild>[0]> = {}): Promise<PythonChild> {
  const child = await spawnPythonChild({ python, module: "bridge_peer", args: [mode], cwd: here, ...hooks });
  children.push(child);
  return child;
}

describe.each(["loop", "thread"])("a child that reads in its %s", (mode) => {
  it("reports its versions, answers, and ends when it is closed", async () => {
    const onExit = vi.fn();
    const child = await start(mode, { onExit });
    expect(child.ready.mode).toBe(mode);
    expect(child.ready.pid).toBe(child.pid);
    const packages = (child.ready.versions as Map<string, unknown>).get("packages") as Map<string, string>;
    expect(packages.get("distributed")).toMatch(/^\d+\.\d+/);
    const reply = await child.request("echo", { value: ["x", 1, new Float(1), null, new Map([[["a", 1], 2]])] });
    expect(reply.value).toEqual(["x", 1, new Float(1), null, new Map([[["a", 1], 2]])]);
    await child.close();
    expect(onExit).toHaveBeenCalledExactlyOnceWith(0, null);
    expect(child.alive).toBe(false);
    await expect(child.request("echo", { value: 1 })).rejects.toThrow("is gone");
  });

  describe("one child for several tests, as its start takes most of the time", () => {
    let child: PythonChild;
    let onMessage: (message: Message) => void = () => undefined;

    beforeAll(async () => {
      const hooks = { onMessage: (message: Message) => onMessage(message) };
      child = await spawnPythonChild({ python, module: "bridge_peer", args: [mode], cwd: here, ...hooks });
    });
    afterAll(() => child.close(2000));

    it("carries sub-messages closed, with large frames, both ways", async () => {
      const big = new Uint8Array(5_000_000).map((_, i) => i * 7);
      const sent = [
        serializedMsgpack(["a"]),
        pickled(Buffer.from("N."), [big, new Uint8Array(0), big.subarray(0, 10)]),
      ];
      const { value } = await child.request("echo", { value: sent });
      const [, second] = value as [unknown, Pickled];
      expect(second).toBeInstanceOf(Pickled);
      expect(second.frames.map((f) => f.byteLength)).toEqual([5_000_000, 0, 10]);
      expect(Buffer.compare(second.frames[0]!, big)).toBe(0);
    });

    it("keeps the order of many messages in both directions", async () => {
      const seen: unknown[] = [];
      onMessage = (message) => seen.push(message.key);
      const keys = Array.from({ length: 20_000 }, (_, i) => `key-${i}`);
      for (const key of keys) child.send({ op: "task", key });
      await child.request("echo", { value: 1 });
      expect(seen).toEqual(keys);
    });

    it("gives the parts of a long reply before the reply", async () => {
      const parts: unknown[] = [];
      expect((await child.request("chunks", { n: 5 }, (chunk) => parts.push(chunk.i))).n).toBe(5);
      expect(parts).toEqual([0, 1, 2, 3, 4]);
    });

    it("takes messages from many threads", async () => {
      const keys = new Set<unknown>();
      onMessage = (message) => keys.add(message.key);
      await child.request("threads", { n: 50 });
      expect(keys.size).toBe(50);
    });

    it("asks its parent", async () => {
      onMessage = (message) => child.reply(message.id, { y: (message.x as number) + 1 });
      expect((await child.request("ask", { x: 41 })).answer).toBe(42);
    });

    it("reports an exception with the fields of error_message", async () => {
      const reply = await child.request("fail", {});
      expect(reply.status).toBe("uncaught-error");
      expect(reply.exception_text).toBe("ValueError('as asked')");
    });
  });
});

it("fails what is in flight when the child dies, and says so once", async () => {
  const onExit = vi.fn();
  const lines: string[] = [];
  const child = await start("loop", { onExit, onLine: (_, line) => lines.push(line) });
  const waiting = child.request("hang", {});
  child.kill();
  await expect(waiting).rejects.toThrow("ended by SIGKILL");
  expect(onExit).toHaveBeenCalledExactlyOnceWith(null, "SIGKILL");
  const second = await start("loop", { onLine: (_, line) => lines.push(line) });
  await expect(second.request("die", {})).rejects.toThrow("ended by SIGSEGV");
  expect(lines.join("\n")).toContain("Segmentation fault");
});

it("sees the end of a child whose own child lives on with its output", async () => {
  const onExit = vi.fn();
  const lines: string[] = [];
  const child = await start("loop", { onExit, onLine: (_, line) => lines.push(line) });
  await expect(child.request("leave", { code: 7 })).rejects.toThrow("ended with code 7");
  expect(onExit).toHaveBeenCalledExactlyOnceWith(7, null);
  expect(lines).toEqual(["last words"]);
});

it("passes on what the child prints", async () => {
  const lines: string[] = [];
  const child = await start("loop", { onLine: (stream, line) => lines.push(`${stream}: ${line}`) });
  await child.request("print", {});
  await vi.waitFor(() => expect(lines.toSorted()).toEqual(["stderr: to stderr", "stdout: to stdout"]), {
    timeout: 60_000,
  });
});

it("says why a child does not start", async () => {
  await expect(start("broken")).rejects.toThrow("this child does not start");
  await expect(start("loop", { python: "/nowhere/python" })).rejects.toThrow("cannot be started");
});

it("rejects a request that cannot be encoded and sends the others", async () => {
  const child = await start("loop");
  const bad = child.request("echo", { value: (() => 1) as never });
  const good = child.request("echo", { value: 1 });
  await expect(bad).rejects.toThrow("msgpack");
  expect((await good).value).toBe(1);
});

it.skipIf(process.platform !== "linux")("ends a child that hangs when it is closed", async () => {
  const child = await start("loop");
  const waiting = child.request("hang", {});
  const failed = expect(waiting).rejects.toThrow("ended by");
  await child.close(100);
  await failed;
  expect(() => readFileSync(`/proc/${child.pid}/stat`)).toThrow();
});
