/** Compression of what is sent, where both ends have agreed on one (distributed.protocol.compression.maybe_compress). */
import { compressFrameAsync } from "./compression.ts";
import { decodeSubHeader } from "./message.ts";
import { encode } from "./msgpack/encode.ts";
import { Serialized, type Value } from "./msgpack/value.ts";

/**
 * The value with its frames compressed as far as that pays, off the event loop. Frames that are compressed already, and
 * values whose header does not speak of compression, stay as they are.
 *
 * @throws {ProtocolError} for a compression that is not supported here.
 */
export async function compressPayload(value: Value, name: string | null): Promise<Value> {
  if (name === null || !(value instanceof Serialized)) return value;
  const header = decodeSubHeader(value.header);
  const before = header.get("compression");
  if (!Array.isArray(before) || before.length !== value.frames.length) return value;
  const after: Value[] = [...before];
  const frames = [...value.frames];
  for (const [i, frame] of frames.entries()) {
    if (after[i] !== null && after[i] !== false) continue;
    const { compression, bytes } = await compressFrameAsync(name, frame);
    after[i] = compression;
    frames[i] = bytes;
  }
  if (after.every((one, i) => one === before[i])) return value;
  header.set("compression", after);
  return new Serialized(encode(header), frames);
}
