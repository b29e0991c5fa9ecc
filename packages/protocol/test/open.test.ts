import { describe, expect, it } from "vitest";
import {
  compressFrame,
  decodeMessage,
  encode,
  float,
  logicalFrames,
  openBytes,
  ProtocolError,
  Serialized,
  serializedBytes,
  serializedMsgpack,
  serializedPickle,
  type Value,
} from "../src/index.ts";

function sub(header: Record<string, Value>, ...frames: Uint8Array[]): Serialized {
  return new Serialized(encode({ "num-sub-frames": frames.length, ...header }), frames);
}

const zeros = new Uint8Array(20_000);
const packed = compressFrame("lz4", zeros).bytes;

describe("openBytes", () => {
  it("reads bytes and msgpack, and nothing that needs Python", () => {
    expect(openBytes(serializedBytes(Uint8Array.of(1, 2)))).toEqual(Uint8Array.of(1, 2));
    const value = new Map<Value, Value>([[["k", 1], float(2)]]);
    expect(openBytes(serializedMsgpack([value, "x", null]))).toEqual([value, "x", null]);
    expect(openBytes(serializedPickle(Uint8Array.of(0x4e, 0x2e)))).toBeUndefined();
    expect(openBytes(sub({ serializer: "dask", type: "numpy.ndarray" }, zeros))).toBeUndefined();
  });

  it("joins shards after unpacking each", () => {
    const shards = sub(
      {
        serializer: "dask",
        type: "bytes",
        compression: ["lz4", null, "lz4"],
        "split-num-sub-frames": [3],
        "split-offsets": [0],
      },
      packed,
      Uint8Array.of(7),
      packed,
    );
    const bytes = openBytes(shards) as Uint8Array;
    expect(bytes.byteLength).toBe(40_001);
    expect(bytes[20_000]).toBe(7);
    expect(logicalFrames(shards)).toHaveLength(1);
  });

  it("reads collections of bytes", () => {
    const element = new Map<Value, Value>([
      ["serializer", "dask"],
      ["type", "bytes"],
    ]);
    const list = { "is-collection": true, "sub-headers": [element, element], "frame-lengths": [1, 1] };
    const [a, b] = [Uint8Array.of(1), Uint8Array.of(2)];
    expect(openBytes(sub({ ...list, "type-serialized": "list" }, a, b))).toEqual([a, b]);
    expect(openBytes(sub({ ...list, "type-serialized": "set" }, a, b))).toEqual(new Set([a, b]));
    const named = new Map<Value, Value>([...element, ["key", ["x", 1]]]);
    expect(
      openBytes(
        sub({ "is-collection": true, "sub-headers": [named], "frame-lengths": [1], "type-serialized": "dict" }, a),
      ),
    ).toEqual(new Map([[["x", 1], a]]));
    const pickles = new Map<Value, Value>([["serializer", "pickle"]]);
    expect(openBytes(sub({ ...list, "sub-headers": [element, pickles], "type-serialized": "list" }, a, b))).toBe(
      undefined,
    );
  });

  it("refuses headers that do not fit their frames", () => {
    const bytes = { serializer: "dask", type: "bytes" };
    const list = { "is-collection": true, "type-serialized": "list" };
    const bad: Serialized[] = [
      sub({ ...bytes, compression: [] }, zeros),
      sub({ ...bytes, compression: [1] }, zeros),
      sub({ ...bytes, compression: ["snappy"] }, zeros),
      sub({ ...bytes, compression: "lz4" }, packed),
      sub({ ...bytes, "split-num-sub-frames": [1] }, zeros),
      sub({ ...bytes, "split-num-sub-frames": [2], "split-offsets": [0] }, zeros),
      sub({ ...bytes, "split-num-sub-frames": [1], "split-offsets": [-1] }, zeros),
      sub({ ...bytes, "split-num-sub-frames": [0.5], "split-offsets": [0] }, zeros),
      sub({ ...list }, zeros),
      sub({ ...list, "sub-headers": [new Map()], "frame-lengths": [2] }, zeros),
      sub({ ...list, "sub-headers": [1], "frame-lengths": [1] }, zeros),
      sub({ serializer: "msgpack" }, Uint8Array.of(0xc1)),
      new Serialized(encode([1]), []),
    ];
    for (const [i, one] of bad.entries()) {
      if (i === 9) expect(openBytes(one), String(i)).toBeUndefined();
      else expect(() => openBytes(one), String(i)).toThrow(ProtocolError);
    }
  });

  it("bounds what overlapping offsets would make of few bytes", () => {
    const counts = Array.from({ length: 1000 }, () => 2);
    const again = sub(
      { serializer: "dask", type: "bytes", "split-num-sub-frames": counts, "split-offsets": counts.map(() => 0) },
      zeros,
      zeros,
    );
    const limits = {
      maxFrames: 10,
      maxFrameBytes: 2 ** 20,
      maxMessageBytes: 2 ** 20,
      maxUnpackedBytes: 2 ** 20,
      maxDepth: 100,
    };
    expect(() => logicalFrames(again, limits)).toThrow(/over the limit/);
  });
});

it("a placeholder that is no frame index is not a sub-message", () => {
  const message = decodeMessage([encode({ a: new Map<Value, Value>([["__Serialized__", 0]]) }), new Uint8Array(1)]);
  expect(message).toEqual({ a: new Map([["__Serialized__", 0]]) });
});
