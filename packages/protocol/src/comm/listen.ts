/** Listening for comms (distributed.comm.tcp.BaseTCPListener). */
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { ensureIp, getIp, getTcpAddressFromHostPort, parseAddress, parseHostPort, plainIp } from "../address.ts";
import type { HandshakeInfo } from "../handshake.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import type { Comm } from "./comm.ts";
import { type Scheme, schemeOf } from "./schemes.ts";
import { DEFAULT_TCP_TIMEOUT_MS, establish } from "./socket.ts";
import type { SocketComm } from "./tcp.ts";
import type { TlsSettings } from "./tls.ts";
import { createWebSocketServer, type Pages } from "./ws.ts";
import { AddressError } from "../errors.ts";

export interface ListenSettings {
  /** A comm whose handshake is done. A throw closes that comm only. */
  readonly onComm: (comm: Comm) => void;
  /** A connection that came to nothing (no TLS, no handshake, broken limit): for the log. */
  readonly onRejected?: (error: Error, peerAddress: string) => void;
  /** Needed for `tls://` and `wss://`. */
  readonly tls?: TlsSettings | undefined;
  readonly limits?: Limits;
  readonly handshake?: HandshakeInfo;
  readonly handshakeTimeoutMs?: number;
  readonly tcpTimeoutMs?: number;
  /** `distributed.comm.socket-backlog` */
  readonly backlog?: number;
  /** `distributed.comm.require-encryption`: refuses to listen on `tcp://` and `ws://`. */
  readonly requireEncryption?: boolean;
  /** `distributed.comm.websockets.shard` */
  readonly shardBytes?: number;
  /** Connections held at once; further ones are closed at once. */
  readonly maxConnections?: number;
  /** Ports to try in order, instead of the address's own (`--worker-port 9000:9010`). */
  readonly ports?: readonly number[];
  /** Used where the address has no port; 0 takes a free one. */
  readonly defaultPort?: number;
  /** Host of the contact address where this listens on all interfaces. */
  readonly contactHost?: string | undefined;
}

export interface Listener {
  /** Where it listens; may name a wildcard host. */
  readonly address: string;
  /** Where peers reach it. */
  readonly contactAddress: string;
  readonly port: number;
  /** Where comms are WebSockets: serves pages on the same port (as stock does where both ports are equal). */
  readonly share: ((pages: Pages) => void) | undefined;
  /** Stops accepting and aborts what is still in its handshake. Comms handed over stay open. */
  close(): void;
}

/**
 * Starts listening. An empty host means all interfaces, IPv4 and IPv6.
 *
 * @throws where the address cannot be bound, or `tls://` comes without settings.
 */
export async function listen(address: string, settings: ListenSettings): Promise<Listener> {
  const parsed = parseAddress(address, settings.tls === undefined ? "tcp" : "tls");
  const scheme = schemeOf(parsed.scheme, address);
  const { host, port } = parseHostPort(parsed.loc, settings.defaultPort ?? 0);
  if (scheme.encrypted && settings.tls === undefined) {
    throw new AddressError(`cannot listen on '${address}' without TLS certificates`);
  }
  if (!scheme.encrypted && settings.requireEncryption === true) {
    throw new AddressError(`encryption required by Dask configuration, refusing communication from/to '${address}'`);
  }
  const accept = new Acceptor(scheme.name, settings);
  const bindHost = host === "" || host === "0.0.0.0" || host === "::" ? host : await ensureIp(host);
  const { server, share } = await bind(() => makeServer(scheme, settings, accept), bindHost, {
    ports: settings.ports ?? [port],
    backlog: settings.backlog ?? 2048,
  });
  const bound = server.address();
  const boundPort = typeof bound === "object" && bound !== null ? bound.port : 0;
  const shownHost = bindHost === "" ? "0.0.0.0" : bindHost;
  let contactHost = shownHost;
  if (shownHost === "0.0.0.0") contactHost = settings.contactHost ?? (await getIp());
  else if (shownHost === "::") contactHost = settings.contactHost ?? (await getIp("2001:4860:4860::8888"));
  return {
    address: getTcpAddressFromHostPort(shownHost, boundPort, scheme.name),
    contactAddress: getTcpAddressFromHostPort(contactHost, boundPort, scheme.name),
    port: boundPort,
    share,
    close: () => {
      server.close();
      accept.stop();
    },
  };
}

interface CommServer {
  readonly server: Server;
  readonly share: ((pages: Pages) => void) | undefined;
}

function makeServer(scheme: Scheme, settings: ListenSettings, accept: Acceptor): CommServer {
  const handshakeTimeoutMs = settings.handshakeTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS;
  let tls: TlsOptions | undefined;
  if (scheme.encrypted && settings.tls !== undefined) {
    const { secureContext: _, ...files } = settings.tls;
    tls = { ...files, requestCert: true, rejectUnauthorized: true, handshakeTimeout: handshakeTimeoutMs };
  }
  let made: CommServer;
  if (scheme.webSocket) {
    made = createWebSocketServer({
      tls,
      handshakeTimeoutMs,
      limits: settings.limits ?? DEFAULT_LIMITS,
      shardBytes: settings.shardBytes,
      onStream: (socket, stream) => void accept.take(socket, stream),
      onRejected: (error, socket) => accept.report(error, socket),
    });
  } else if (tls === undefined) {
    made = { server: createServer((socket) => void accept.take(socket)), share: undefined };
  } else {
    const server = createTlsServer(tls);
    server.on("secureConnection", (socket) => void accept.take(socket));
    made = { server, share: undefined };
  }
  const { server } = made;
  server.on("tlsClientError", (error: Error, socket: Socket) => accept.reject(error, socket));
  if (settings.maxConnections !== undefined) server.maxConnections = settings.maxConnections;
  return made;
}

/** Takes connections through their handshake. */
class Acceptor {
  readonly #scheme: string;
  readonly #settings: ListenSettings;
  readonly #handshaking = new Set<SocketComm>();
  #stopped = false;

  constructor(scheme: string, settings: ListenSettings) {
    this.#scheme = scheme;
    this.#settings = settings;
  }

  async take(socket: Socket, stream?: Duplex): Promise<void> {
    if (this.#stopped) {
      (stream ?? socket).destroy();
      return;
    }
    const settings = this.#settings;
    const peer = peerOf(this.#scheme, socket);
    let opened: SocketComm | undefined;
    try {
      const comm = await establish(socket, {
        scheme: this.#scheme,
        stream,
        limits: settings.limits ?? DEFAULT_LIMITS,
        handshake: settings.handshake ?? {},
        handshakeTimeoutMs: settings.handshakeTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS,
        tcpTimeoutMs: settings.tcpTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS,
        onOpen: (comm) => {
          opened = comm;
          this.#handshaking.add(comm);
        },
      });
      try {
        settings.onComm(comm);
      } catch (error) {
        comm.abort(error as Error);
        throw error;
      }
    } catch (error) {
      settings.onRejected?.(error as Error, peer);
    } finally {
      if (opened !== undefined) this.#handshaking.delete(opened);
    }
  }

  reject(error: Error, socket: Socket): void {
    // Read before the socket goes: a destroyed socket has no address.
    const peer = peerOf(this.#scheme, socket);
    socket.on("error", () => undefined);
    socket.destroy();
    this.#settings.onRejected?.(error, peer);
  }

  report(error: Error, socket: Socket): void {
    this.#settings.onRejected?.(error, peerOf(this.#scheme, socket));
  }

  stop(): void {
    this.#stopped = true;
    for (const comm of this.#handshaking) comm.abort();
  }
}

function peerOf(scheme: string, socket: Socket): string {
  if (socket.remoteAddress === undefined) return "unknown";
  return getTcpAddressFromHostPort(plainIp(socket.remoteAddress), socket.remotePort ?? 0, scheme);
}

interface BindSettings {
  readonly ports: readonly number[];
  readonly backlog: number;
}

/** Ports in order until one is free; port 0 gets a few tries, as the kernel's choice can be taken in the meantime. */
async function bind(make: () => CommServer, host: string, { ports, backlog }: BindSettings): Promise<CommServer> {
  let last: unknown = new AddressError("no port to listen on");
  for (const port of ports) {
    for (let attempt = 0; attempt < (port === 0 ? 5 : 1); attempt++) {
      try {
        const made = make();
        await bindOnce(made.server, port, host, backlog);
        return made;
      } catch (error) {
        last = error;
        if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      }
    }
  }
  if (ports.length > 1) {
    throw new Error(`no free port on '${host}' among ${ports[0]}:${ports[ports.length - 1]}`, { cause: last });
  }
  throw last;
}

function bindOnce(server: Server, port: number, host: string, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, backlog, ...(host === "" ? {} : { host }) }, () => {
      server.off("error", reject);
      // Running out of descriptors while accepting is the only error left; the listener lives on.
      server.on("error", () => undefined);
      resolve();
    });
  });
}
