/** What every comm socket gets, whoever opened it (distributed.comm.tcp.set_tcp_timeout), and its opening handshake. */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { CommClosedError, TimeoutError } from "../errors.ts";
import { getTcpAddressFromHostPort, plainIp } from "../address.ts";
import { type HandshakeInfo, handshakeMessage, negotiate } from "../handshake.ts";
import type { Limits } from "../limits.ts";
import { SocketComm } from "./tcp.ts";

/** `distributed.comm.timeouts.tcp` */
export const DEFAULT_TCP_TIMEOUT_MS = 30_000;

export interface EstablishOptions {
  readonly scheme: string;
  readonly limits: Limits;
  /** Compression this side would use towards another host. */
  readonly handshake: HandshakeInfo;
  readonly handshakeTimeoutMs: number;
  readonly tcpTimeoutMs: number;
  /** What carries the messages over the socket; by default the socket itself. */
  readonly stream?: Duplex | undefined;
  /** The peer's address as the caller knows it; by default from the socket. */
  readonly peerAddress?: string;
  /** Told of the comm before its handshake, so that it can be aborted. */
  readonly onOpen?: (comm: SocketComm) => void;
}

/**
 * Makes a comm of a connected socket: options, then the handshake in both directions at once.
 *
 * @throws {ProtocolError} {@link CommClosedError} {@link TimeoutError}; the socket is closed then.
 */
export async function establish(socket: Socket, options: EstablishOptions): Promise<SocketComm> {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (remoteAddress === undefined || localAddress === undefined) {
    for (const end of [options.stream, socket]) {
      end?.on("error", () => undefined);
      end?.destroy();
    }
    throw new CommClosedError("the connection closed before it was used");
  }
  socket.setNoDelay(true);
  // Ten probes, one a second (fixed by libuv), so that a dead peer is found after the TCP timeout. Node has no
  // TCP_USER_TIMEOUT: with unacknowledged data on the way it takes the kernel's own time (the worker TTL is sooner).
  socket.setKeepAlive(true, Math.max(1000, options.tcpTimeoutMs - 10_000));
  const [localIp, remoteIp] = [plainIp(localAddress), plainIp(remoteAddress)];
  const comm = new SocketComm(options.stream ?? socket, {
    localAddress: getTcpAddressFromHostPort(localIp, localPort ?? 0, options.scheme),
    peerAddress: options.peerAddress ?? getTcpAddressFromHostPort(remoteIp, remotePort ?? 0, options.scheme),
    limits: options.limits,
  });
  options.onOpen?.(comm);
  const info = localIp === remoteIp ? { ...options.handshake, compression: null } : options.handshake;
  const timer = setTimeout(() => {
    comm.abort(new TimeoutError(`no handshake from ${comm.peerAddress} within ${options.handshakeTimeoutMs / 1000} s`));
  }, options.handshakeTimeoutMs);
  try {
    comm.send(handshakeMessage(info));
    comm.negotiated = negotiate(info, await comm.receive());
    return comm;
  } catch (error) {
    // A closed comm says that it is closed; why is in its cause.
    const cause = error instanceof CommClosedError && error.cause instanceof Error ? error.cause : (error as Error);
    comm.abort(cause);
    throw cause.name === "ProtocolError" || cause.name === "TimeoutError" ? cause : (error as Error);
  } finally {
    clearTimeout(timer);
  }
}
