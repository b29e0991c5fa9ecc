import { PassThrough, Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { forwardOutput } from "../../src/bridge/forward-output.ts";

/** A reader that takes what comes when it is told to. */
class SlowReader extends Writable {
  text = "";
  #go: (() => void) | undefined;
  #isOpen = false;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    if (this.#isOpen) done();
    else this.#go = done;
  }
  open(): void {
    this.#isOpen = true;
    this.#go?.();
  }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await turn();
};

describe("forwardOutput", () => {
  it("keeps the lines of two children whole", async () => {
    const target = new SlowReader();
    target.open();
    const [a, b] = [new PassThrough(), new PassThrough()];
    for (const source of [a, b]) forwardOutput(source, target);
    a.write("one, ");
    b.write("three\nfo");
    a.write("two\n");
    b.write("ur");
    a.end();
    b.end();
    await settle();
    expect(target.text.split("\n").toSorted()).toEqual(["", "four", "one, two", "three"]);
  });

  it("reads no more than the reader takes, and loses nothing", async () => {
    const target = new SlowReader();
    const source = new PassThrough();
    forwardOutput(source, target);
    const lines = Array.from({ length: 5000 }, (_, i) => `line ${i} ${"x".repeat(100)}\n`);
    let taken = 0;
    for (const line of lines) {
      if (!source.write(line)) await settle();
      if (source.writableNeedDrain) break;
      taken++;
    }
    expect(taken).toBeLessThan(2000);
    expect(target.writableLength).toBeLessThan(200_000);
    target.open();
    for (const line of lines.slice(taken + 1)) source.write(line);
    source.end();
    await settle();
    expect(target.text).toBe(lines.join(""));
  });

  it("passes on a line without an end in pieces, so that it need not be kept", async () => {
    const target = new SlowReader();
    target.open();
    const source = new PassThrough();
    forwardOutput(source, target);
    for (let i = 0; i < 10; i++) source.write("x".repeat(50_000));
    await settle();
    expect(target.text.length).toBeGreaterThan(400_000);
  });

  it("goes on reading where the reader is gone, so that children need not wait", async () => {
    const target = new SlowReader();
    const source = new PassThrough();
    forwardOutput(source, target);
    source.write(`${"x".repeat(100_000)}\n`);
    await settle();
    target.destroy(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
    await settle();
    for (let i = 0; i < 20; i++) {
      source.write(`${"y".repeat(10_000)}\n`);
      await settle();
    }
    expect(source.writableNeedDrain).toBe(false);
  });
});
