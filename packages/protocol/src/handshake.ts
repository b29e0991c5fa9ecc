/**
 * The handshake (wire-protocol.md §3; distributed.comm.core.Comm.handshake_info and handshake_configuration). Both
 * sides send this message at once and then read the other's: whoever waits first waits forever.
 *
 *     {"compression": str | nil, "python": [major, minor, micro], "pickle-protocol": int}
 */
import { ProtocolError } from "./errors.ts";
import { asNumber, isMessage, type Message, type Value } from "./msgpack/value.ts";

/** What this side says of itself. */
export interface HandshakeInfo {
  /** Compression this side would use; null between two ends on one host (default null). */
  readonly compression?: string | null;
  /** The highest pickle protocol this side reads (default 5). The stock scheduler says 4 where it connects. */
  readonly pickleProtocol?: number;
}

/** What both sides agreed on. It binds the writers only; a reader goes by the sub-headers. */
export interface Negotiated {
  readonly compression: string | null;
  readonly pickleProtocol: number;
}

export const HIGHEST_PICKLE_PROTOCOL = 5;

/** Peers log this field and never compare it; the oldest Python that this release of distributed runs on. */
const PYTHON = [3, 10, 0];

/** The message that opens a comm. */
export function handshakeMessage(info: HandshakeInfo): Message {
  return {
    compression: info.compression ?? null,
    python: PYTHON,
    "pickle-protocol": info.pickleProtocol ?? HIGHEST_PICKLE_PROTOCOL,
  };
}

/**
 * What two handshakes agree on.
 *
 * @throws {ProtocolError} where the remote message is none. (Stock listeners neither answer nor close then.)
 */
export function negotiate(local: HandshakeInfo, remote: Value): Negotiated {
  if (!isMessage(remote)) throw new ProtocolError("the peer did not begin with a handshake");
  const pickleProtocol = asNumber(remote["pickle-protocol"], Number.NaN);
  if (!Number.isInteger(pickleProtocol) || pickleProtocol < 0) {
    throw new ProtocolError("the peer's handshake has no pickle-protocol; is it of another version of distributed?");
  }
  const compression = remote["compression"];
  if (compression === undefined) throw new ProtocolError("the peer's handshake has no compression");
  return {
    compression: typeof compression === "string" && compression === local.compression ? compression : null,
    pickleProtocol: Math.min(pickleProtocol, local.pickleProtocol ?? HIGHEST_PICKLE_PROTOCOL),
  };
}
