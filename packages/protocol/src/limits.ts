/** What one peer may make this process hold. Past a limit the peer gets an error and loses its connection. */
export interface Limits {
  /** Frames in one message. */
  readonly maxFrames: number;
  /** Bytes of one frame. Node cannot hold more than 4 GiB in one buffer. */
  readonly maxFrameBytes: number;
  /** Bytes of one message, all frames together. */
  readonly maxMessageBytes: number;
  /**
   * Bytes that one message may take in memory beyond its frames: values of its msgpack document (by a rough count, as a
   * document of a few megabytes can hold millions of empty maps), and what its compressed frames unpack to.
   */
  readonly maxUnpackedBytes: number;
  /** How deep arrays and maps may nest in a msgpack document. */
  readonly maxDepth: number;
}

export const DEFAULT_LIMITS: Limits = {
  maxFrames: 1_000_000,
  maxFrameBytes: 0xffff_ffff,
  maxMessageBytes: 64 * 2 ** 30,
  maxUnpackedBytes: 2 ** 29,
  maxDepth: 512,
};
