import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS, FrameSplitter, framedLength, joinFrames, ProtocolError } from "../src/index.ts";

/** The head of a message: `nosplit`, the number of frames, their lengths. */
function prelude(count: bigint, ...lengths: bigint[]): Buffer {
  const head = Buffer.alloc(16 + 8 * lengths.length);
  head.writeBigUInt64LE(count, 8);
  for (const [i, length] of lengths.entries()) head.writeBigUInt64LE(length, 16 + 8 * i);
  return head;
}

function splitter(limits = DEFAULT_LIMITS): { splitter: FrameSplitter; messages: Uint8Array[][] } {
  const messages: Uint8Array[][] = [];
  return { splitter: new FrameSplitter((frames) => messages.push(frames), limits), messages };
}

describe("FrameSplitter", () => {
  it("gives views of the chunk where a frame lies in it", () => {
    const { splitter: stream, messages } = splitter();
    const chunk = Buffer.concat(joinFrames([Buffer.from("head"), Buffer.alloc(0), Buffer.from("tail")]));
    stream.push(chunk);
    expect(messages[0]!.map(String)).toEqual(["head", "", "tail"].map(String));
    expect(messages[0]![0]!.buffer).toBe(chunk.buffer);
  });

  it("is idle between messages only", () => {
    const { splitter: stream } = splitter();
    const bytes = Buffer.concat(joinFrames([Buffer.from("ab"), Buffer.from("c")]));
    expect(stream.idle).toBe(true);
    for (let i = 0; i < bytes.length; i++) {
      stream.push(bytes.subarray(i, i + 1));
      expect(stream.idle).toBe(i === bytes.length - 1);
    }
  });

  it("takes frames larger than its first step, in chunks of any size", () => {
    const large = Buffer.alloc(90 * 2 ** 20);
    for (let i = 0; i < large.length; i += 4099) large[i] = i % 251;
    const stream = Buffer.concat(joinFrames([Buffer.from("x"), large, Buffer.from("y")]));
    for (const size of [64 * 1024, 17 * 2 ** 20, 70 * 2 ** 20]) {
      const { splitter: one, messages } = splitter();
      for (let at = 0; at < stream.length; at += size) one.push(stream.subarray(at, at + size));
      expect(messages[0]!.map((frame) => frame.byteLength)).toEqual([1, large.length, 1]);
      expect(large.equals(messages[0]![1]!)).toBe(true);
    }
  });

  it("takes no memory for frames that are only announced", () => {
    const before = process.memoryUsage().arrayBuffers;
    const streams = Array.from({ length: 50 }, () => {
      const { splitter: stream } = splitter();
      stream.push(Buffer.concat([prelude(1n, 0xffff_ffffn), Buffer.from("some")]));
      return stream;
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 17 * 2 ** 20);
    expect(streams.every((stream) => !stream.idle)).toBe(true);
  });

  it("refuses what is over a limit, before it takes the memory", () => {
    const limits = { ...DEFAULT_LIMITS, maxFrames: 10, maxFrameBytes: 1000, maxMessageBytes: 1500 };
    const bad: [Buffer, RegExp][] = [
      [prelude(0n), /at least one frame/],
      [prelude(11n), /11 frames is over the limit of 10/],
      [prelude(2n ** 64n - 1n), /over the limit of 10/],
      [prelude(1n, 1001n), /frame of 1001 bytes/],
      [prelude(1n, 2n ** 63n), /over the limit of 1000/],
      [prelude(2n, 800n, 800n), /message of 1600 bytes/],
      [Buffer.from("GET / HTTP/1.1\r\nHost: scheduler\r\n\r\n"), /over the limit/],
    ];
    for (const [bytes, error] of bad) {
      expect(() => splitter(limits).splitter.push(bytes)).toThrow(error);
      const { splitter: slow } = splitter(limits);
      expect(() => {
        for (const byte of bytes) slow.push(Uint8Array.of(byte));
      }).toThrow(ProtocolError);
    }
  });
});

it("joinFrames writes large frames as they are", () => {
  const large = Buffer.alloc(100_000);
  const frames = [Buffer.from("a"), large, Buffer.from("b"), Buffer.from("c")];
  const buffers = joinFrames(frames);
  expect(buffers).toHaveLength(3);
  expect(buffers[1]).toBe(large);
  expect(buffers.reduce((n, buffer) => n + buffer.byteLength, 0)).toBe(framedLength(frames));
  expect(Buffer.concat(buffers).readBigUInt64LE(0)).toBe(BigInt(framedLength(frames) - 8));
});
