/** Opening comms (distributed.comm.core.connect): attempts with growing pauses until the time is up. */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { parseAddress, parseHostPort } from "../address.ts";
import { CommClosedError, TimeoutError } from "../errors.ts";
import type { HandshakeInfo } from "../handshake.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import type { Comm } from "./comm.ts";
import { DEFAULT_TCP_TIMEOUT_MS, establish } from "./socket.ts";
import type { TlsSettings } from "./tls.ts";

/** `distributed.comm.timeouts.connect` */
export const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;
/** First pause at most this, doubled with each attempt. */
const BACKOFF_BASE_MS = 10;

export interface ConnectSettings {
  /** For all attempts and the handshake together. */
  readonly timeoutMs?: number | undefined;
  /** Needed for `tls://`. */
  readonly tls?: TlsSettings | undefined;
  /** Sent as SNI; host names are not checked. */
  readonly serverHostname?: string | undefined;
  readonly limits?: Limits | undefined;
  readonly handshake?: HandshakeInfo | undefined;
  readonly tcpTimeoutMs?: number | undefined;
  /** Gives up when aborted, with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** `distributed.comm.require-encryption`: refuses `tcp://`. */
  readonly requireEncryption?: boolean | undefined;
  readonly defaultScheme?: string | undefined;
}

/**
 * Opens a comm. A peer that cannot be reached is tried again until the time is up; a peer whose certificate is wrong,
 * or that does not speak the protocol, is not.
 *
 * @throws {TimeoutError} "Timed out trying to connect to tcp://… after 30 s"; the last failure is its cause.
 * @throws {CommClosedError} where TLS or the handshake fails.
 * @throws {ProtocolError} where the peer speaks something else.
 * @throws {TypeError} for malformed addresses, and for `tls://` without settings.
 */
export async function connect(address: string, settings: ConnectSettings = {}): Promise<Comm> {
  const { scheme, loc } = parseAddress(address, settings.defaultScheme);
  const { host, port } = parseHostPort(loc);
  if (scheme !== "tcp" && scheme !== "tls") throw new TypeError(`cannot connect to '${address}': unknown scheme`);
  if (scheme === "tls" && settings.tls === undefined) {
    throw new TypeError(`cannot connect to '${address}' without TLS certificates`);
  }
  if (scheme === "tcp" && settings.requireEncryption === true) {
    throw new TypeError(`encryption required by Dask configuration, refusing communication from/to '${address}'`);
  }
  const timeoutMs = settings.timeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
  const deadline = performance.now() + timeoutMs;
  const target: Target = {
    host: host === "" ? "localhost" : host,
    port,
    tls: scheme === "tls" ? settings.tls : undefined,
    serverHostname: settings.serverHostname,
    signal: settings.signal,
  };
  const timedOut = (cause: unknown): TimeoutError =>
    new TimeoutError(`Timed out trying to connect to ${scheme}://${loc} after ${timeoutMs / 1000} s`, { cause });
  const socket = await retry(target, deadline, timeoutMs, timedOut);
  let opening: Comm | undefined;
  const onAbort = (): void => opening?.abort(reasonOf(settings.signal));
  settings.signal?.addEventListener("abort", onAbort);
  try {
    return await establish(socket, {
      scheme,
      limits: settings.limits ?? DEFAULT_LIMITS,
      handshake: settings.handshake ?? {},
      handshakeTimeoutMs: Math.max(1, deadline - performance.now()),
      tcpTimeoutMs: settings.tcpTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS,
      peerAddress: `${scheme}://${loc}`,
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
  readonly host: string;
  readonly port: number;
  readonly tls: TlsSettings | undefined;
  readonly serverHostname: string | undefined;
  readonly signal: AbortSignal | undefined;
}

async function retry(
  target: Target,
  deadline: number,
  timeoutMs: number,
  timedOut: (cause: unknown) => TimeoutError,
): Promise<Socket> {
  const { signal } = target;
  // Several small attempts before one long one: a lost SYN or a slow name server costs one of them.
  let attemptMs = timeoutMs / 5;
  let last: unknown;
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted();
    const left = deadline - performance.now();
    if (left <= 0) throw timedOut(last);
    try {
      return await openSocket(target, Math.min(attemptMs, left));
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

function openSocket(target: Target, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { host, port, tls, serverHostname, signal } = target;
    const socket: Socket =
      tls === undefined
        ? connectTcp({ host, port, noDelay: true })
        : connectTls({
            host,
            port,
            secureContext: tls.secureContext,
            minVersion: tls.minVersion,
            rejectUnauthorized: true,
            checkServerIdentity: () => undefined,
            ...(serverHostname === undefined ? {} : { servername: serverHostname }),
          });
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
    socket.once(tls === undefined ? "connect" : "secureConnect", () => {
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
