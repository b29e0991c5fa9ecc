/** Opening comms (distributed.comm.core.connect): attempts with growing pauses until the time is up. */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { parseAddress, parseHostPort } from "../address.ts";
import { AddressError, CommClosedError, TimeoutError } from "../errors.ts";
import type { HandshakeInfo } from "../handshake.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import type { Comm } from "./comm.ts";
import { type Scheme, schemeOf } from "./schemes.ts";
import { DEFAULT_TCP_TIMEOUT_MS, establish } from "./socket.ts";
import type { TlsSettings } from "./tls.ts";
import { upgrade } from "./ws.ts";
import type { WebSocketStream } from "./ws-stream.ts";

/** `distributed.comm.timeouts.connect` */
export const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;
/** First pause at most this, doubled with each attempt. */
const BACKOFF_BASE_MS = 10;

export interface ConnectSettings {
  /** For all attempts and the handshake together. */
  readonly timeoutMs?: number | undefined;
  /** Needed for `tls://`. Without it `wss://` trusts what the system trusts, and checks the host name, as browsers do. */
  readonly tls?: TlsSettings | undefined;
  /** Sent as SNI, and as `Host` of a WebSocket's request; host names are not checked. */
  readonly serverHostname?: string | undefined;
  readonly limits?: Limits | undefined;
  readonly handshake?: HandshakeInfo | undefined;
  readonly tcpTimeoutMs?: number | undefined;
  /** Gives up when aborted, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** `distributed.comm.require-encryption`: refuses `tcp://` and `ws://`. */
  readonly requireEncryption?: boolean | undefined;
  /** `distributed.comm.websockets.shard` */
  readonly shardBytes?: number | undefined;
  readonly defaultScheme?: string | undefined;
}

/**
 * Opens a comm. A peer that cannot be reached is tried again until the time is up; a peer whose certificate is wrong,
 * or that does not speak the protocol, is not.
 *
 * @throws {TimeoutError} "Timed out trying to connect to tcp://… after 30 s"; the last failure is its cause.
 * @throws {CommClosedError} where TLS or the handshake fails.
 * @throws {ProtocolError} where the peer speaks something else.
 * @throws {AddressError} for malformed addresses, and for `tls://` without settings.
 */
export async function connect(address: string, settings: ConnectSettings = {}): Promise<Comm> {
  const parsed = parseAddress(address, settings.defaultScheme);
  const { loc } = parsed;
  const scheme = schemeOf(parsed.scheme, address);
  const { host, port } = parseHostPort(loc, scheme.webSocket ? (scheme.encrypted ? 443 : 80) : undefined);
  if (scheme.name === "tls" && settings.tls === undefined) {
    throw new AddressError(`cannot connect to '${address}' without TLS certificates`);
  }
  if (!scheme.encrypted && settings.requireEncryption === true) {
    throw new AddressError(`encryption required by Dask configuration, refusing communication from/to '${address}'`);
  }
  const timeoutMs = settings.timeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
  const deadline = performance.now() + timeoutMs;
  const target: Target = {
    host: host === "" ? "localhost" : host,
    port,
    scheme,
    loc,
    tls: settings.tls,
    serverHostname: settings.serverHostname,
    limits: settings.limits ?? DEFAULT_LIMITS,
    shardBytes: settings.shardBytes,
    signal: settings.signal,
  };
  const timedOut = (cause: unknown): TimeoutError =>
    new TimeoutError(`Timed out trying to connect to ${scheme.name}://${loc} after ${timeoutMs / 1000} s`, { cause });
  const { socket, stream } = await retry(target, deadline, timeoutMs, timedOut);
  let opening: Comm | undefined;
  const onAbort = (): void => opening?.abort(reasonOf(settings.signal));
  settings.signal?.addEventListener("abort", onAbort);
  try {
    return await establish(socket, {
      scheme: scheme.name,
      stream,
      limits: target.limits,
      handshake: settings.handshake ?? {},
      handshakeTimeoutMs: Math.max(1, deadline - performance.now()),
      tcpTimeoutMs: settings.tcpTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS,
      peerAddress: `${scheme.name}://${loc}`,
      onOpen: (comm) => {
        opening = comm;
      },
    });
  } catch (error) {
    settings.signal?.throwIfAborted();
    throw error instanceof TimeoutError ? timedOut(error) : error;
  } finally {
    settings.signal?.removeEventListener("abort", onAbort);
  }
}

interface Target {
  readonly scheme: Scheme;
  readonly loc: string;
  readonly host: string;
  readonly port: number;
  readonly tls: TlsSettings | undefined;
  readonly serverHostname: string | undefined;
  readonly limits: Limits;
  readonly shardBytes: number | undefined;
  readonly signal: AbortSignal | undefined;
}

interface Connection {
  readonly socket: Socket;
  /** Undefined where messages go over the socket as they are. */
  readonly stream: WebSocketStream | undefined;
}

async function retry(
  target: Target,
  deadline: number,
  timeoutMs: number,
  timedOut: (cause: unknown) => TimeoutError,
): Promise<Connection> {
  const { signal } = target;
  // Several small attempts before one long one: a lost SYN or a slow name server costs one of them.
  let attemptMs = timeoutMs / 5;
  let last: unknown;
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted();
    const left = deadline - performance.now();
    if (left <= 0) throw timedOut(last);
    try {
      return await open(target, Math.min(attemptMs, left));
    } catch (error) {
      signal?.throwIfAborted();
      if (isTlsFailure(error)) {
        throw new CommClosedError(
          `TLS with ${target.host}:${target.port} failed (${(error as Error).message}). Check your security settings.`,
          { cause: error },
        );
      }
      last = error;
    }
    attemptMs = timeoutMs;
    const cap = Math.min(Math.max(0, deadline - performance.now()), BACKOFF_BASE_MS * 2 ** Math.min(attempt, 30));
    await pause(Math.random() * cap, signal);
  }
}

async function open(target: Target, timeoutMs: number): Promise<Connection> {
  const deadline = performance.now() + timeoutMs;
  const socket = await openSocket(target, timeoutMs);
  if (!target.scheme.webSocket) return { socket, stream: undefined };
  const { limits, shardBytes, signal, serverHostname, loc } = target;
  const giveUp = (): void => void socket.destroy();
  signal?.addEventListener("abort", giveUp);
  try {
    const left = deadline - performance.now();
    return {
      socket,
      stream: await upgrade(socket, { host: serverHostname ?? loc, timeoutMs: left, limits, shardBytes }),
    };
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

/** A TCP socket, or a TLS one; with settings as the cluster's own, without as a browser's. */
function dial({ scheme, host, port, tls, serverHostname }: Target): Socket {
  if (!scheme.encrypted) return connectTcp({ host, port, noDelay: true });
  const servername = serverHostname ?? (tls === undefined && isIP(host) === 0 ? host : undefined);
  return connectTls({
    host,
    port,
    rejectUnauthorized: true,
    ...(servername === undefined ? {} : { servername }),
    ...(tls === undefined
      ? {}
      : { secureContext: tls.secureContext, minVersion: tls.minVersion, checkServerIdentity: () => undefined }),
  });
}

function openSocket(target: Target, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { signal } = target;
    const socket = dial(target);
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.off("error", fail);
    };
    const fail = (error: Error): void => {
      settle();
      socket.on("error", () => undefined);
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(reasonOf(signal));
    const timer = setTimeout(() => fail(new TimeoutError(`no connection within ${timeoutMs / 1000} s`)), timeoutMs);
    signal?.addEventListener("abort", onAbort);
    socket.once("error", fail);
    socket.once(target.scheme.encrypted ? "secureConnect" : "connect", () => {
      settle();
      resolve(socket);
    });
  });
}

/** Certificate and protocol errors: the same peer will fail in the same way. */
function isTlsFailure(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return (
    code.startsWith("ERR_SSL") || code.startsWith("ERR_TLS") || code.includes("CERT") || code.startsWith("UNABLE_TO_")
  );
}

function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new CommClosedError("the connection attempt was given up");
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}
