import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const MODULE = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "stderr.js");
/** Writes 20 MB of lines while nobody reads, says how long that took, and one more line when it is asked to. */
const PROGRAM = `
  const { writeStderr, flushStderr } = await import(${JSON.stringify(MODULE)});
  const begin = performance.now();
  for (let i = 0; i < 20_000; i++) writeStderr(i + " " + "x".repeat(1000) + "\\n");
  process.stdout.write(JSON.stringify({ ms: performance.now() - begin, waiting: process.stderr.writableLength }) + "\\n");
  process.stdin.once("data", async () => {
    while (process.stderr.writableLength > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    writeStderr("the last\\n");
    await flushStderr();
    process.exit();
  });
`;

it("neither waits for a reader that is slow nor keeps more than 8 MB for it, and says what it dropped", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  const ended = once(child, "close");
  const [line] = (await Promise.race([once(child.stdout, "data"), ended])) as [Buffer | number];
  if (typeof line === "number") throw new Error(`the program ended with ${line}: ${child.stderr.read()}`);
  const { ms, waiting } = JSON.parse(line.toString()) as { ms: number; waiting: number };
  expect(ms).toBeLessThan(5000);
  expect(waiting).toBeLessThan(9_000_000);
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  child.stdin.write("go\n");
  await ended;
  const lines = text.trimEnd().split("\n");
  const dropped = Number(/^(\d+) log lines were dropped/.exec(lines.at(-2) ?? "")?.[1]);
  expect(lines.at(-1)).toBe("the last");
  expect(lines.length - 2 + dropped).toBe(20_000);
});
