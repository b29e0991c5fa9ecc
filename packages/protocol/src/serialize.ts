/** Sub-messages made here: values that this process itself puts on the wire in closed form (§5.2, §5.3, §6). */
import { encode } from "./msgpack/encode.ts";
import { Pickled, Serialized, type Value } from "./msgpack/value.ts";

/** Wraps a pickle (protocol 5, with its out-of-band buffers) as Python's `ToPickle` would send it. */
export function pickled(pickle: Uint8Array, buffers: readonly Uint8Array[] = []): Pickled {
  return new Pickled(
    encode({ "pickled-obj": pickle, compression: buffers.map(() => null), "num-sub-frames": buffers.length }),
    buffers,
  );
}

/** A value that a stock peer opens with the `msgpack` serializer family: no Python needed to make it. */
export function serializedMsgpack(value: Value): Serialized {
  return new Serialized(encode({ serializer: "msgpack", "num-sub-frames": 1 }), [encode(value)]);
}

/** A value given as a pickle, opened by the peer with the `pickle` family. */
export function serializedPickle(pickle: Uint8Array): Serialized {
  return new Serialized(encode({ serializer: "pickle", writeable: [], compression: [null], "num-sub-frames": 1 }), [
    pickle,
  ]);
}

/** `pickle.dumps(bytes)`, the type that drives the `dask` family for byte strings. */
const BYTES_TYPE = Buffer.from("80059516000000000000008c086275696c74696e73948c0562797465739493942e", "hex");

/** A byte string as the `dask` family sends it; exceptions and tracebacks travel so (§9). */
export function serializedBytes(bytes: Uint8Array): Serialized {
  return new Serialized(
    encode({
      "sub-header": new Map(),
      type: "bytes",
      "type-serialized": BYTES_TYPE,
      serializer: "dask",
      "split-num-sub-frames": [1],
      "split-offsets": [0],
      compression: [null],
      "num-sub-frames": 1,
    }),
    [bytes],
  );
}
