/**
 * Frames ⇄ messages (wire-protocol.md §5). Frame 0 is the msgpack document; a placeholder `{"__Pickled__": n}` in it
 * points at a sub-header in frame n, which is followed by its `num-sub-frames` payload frames. Sub-messages need
 * neither start at frame 1 nor be contiguous: always go by the placeholder.
 */
import { ProtocolError } from "./errors.ts";
import { joinFrames } from "./frames.ts";
import { DEFAULT_LIMITS, type Limits } from "./limits.ts";
import { decode, type SubMessages, subFrameCount } from "./msgpack/decode.ts";
import { encode } from "./msgpack/encode.ts";
import { isMessage, Pickled, Serialized, type Value } from "./msgpack/value.ts";

/**
 * Decodes one message. Sub-messages stay closed.
 *
 * @throws {ProtocolError} where a document or a placeholder makes no sense.
 */
export function decodeMessage(frames: readonly Uint8Array[], limits: Limits = DEFAULT_LIMITS): Value {
  const first = frames[0];
  if (first === undefined) throw new ProtocolError("a message without frames");
  return decode(first, frames.length > 1 ? new FrameSubMessages(frames) : NO_SUBS, limits);
}

/**
 * Sub-messages by their placeholders. These must come in the order of their frames, as every writer places them: so
 * that no frame is taken twice, and a short document cannot stand for more than the frames that came with it.
 */
class FrameSubMessages implements SubMessages {
  readonly #frames: readonly Uint8Array[];
  #next = 1;
  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
  }
  serialized(frame: number): Serialized {
    return new Serialized(this.#header(frame), this.#payload(frame));
  }
  pickled(frame: number): Pickled {
    return new Pickled(this.#header(frame), this.#payload(frame));
  }
  #header(frame: number): Uint8Array {
    const header = this.#frames[frame];
    if (header === undefined) {
      throw new ProtocolError(`a placeholder points at frame ${frame} of ${this.#frames.length}`);
    }
    if (frame < this.#next) throw new ProtocolError(`a placeholder points back at frame ${frame}`);
    return header;
  }
  #payload(frame: number): readonly Uint8Array[] {
    const count = subFrameCount(this.#frames[frame] as Uint8Array);
    const end = frame + 1 + count;
    if (end > this.#frames.length) {
      throw new ProtocolError(
        `a sub-message at frame ${frame} says it has ${count} frames, but the message ends before`,
      );
    }
    this.#next = end;
    return count === 0 ? NO_FRAMES : this.#frames.slice(frame + 1, end);
  }
}

const NO_FRAMES: readonly Uint8Array[] = Object.freeze([]);
const NO_SUBS = new FrameSubMessages([]);

/**
 * The sub-header of a {@link Serialized} or {@link Pickled} as a Map.
 *
 * @throws {ProtocolError} where it is no msgpack map.
 */
export function decodeSubHeader(header: Uint8Array): Map<Value, Value> {
  const value = decode(header);
  if (value instanceof Map) return value;
  if (!isMessage(value)) throw new ProtocolError("a sub-header is a map");
  return new Map(Object.entries(value) as [string, Value][]);
}

/** Encodes one message to its frames; sub-messages are placed behind frame 0 in the order in which they are met. */
export function encodeMessage(value: Value): Uint8Array[] {
  const frames: Uint8Array[] = [EMPTY];
  frames[0] = encode(value, (sub) => {
    const index = frames.length;
    frames.push(sub.header);
    for (const frame of sub.frames) frames.push(frame);
    return index;
  });
  return frames;
}

const EMPTY = new Uint8Array(0);

/** One message as the buffers to write to a socket. */
export function packMessage(value: Value): Uint8Array[] {
  return joinFrames(encodeMessage(value));
}
