/** Listening for comms (distributed.comm.tcp.BaseTCPListener). */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { ensureIp, getIp, getTcpAddressFromHostPort, parseAddress, parseHostPort, plainIp } from "../address.ts";
import type { HandshakeInfo } from "../handshake.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import type { Comm } from "./comm.ts";
import { DEFAULT_TCP_TIMEOUT_MS, establish } from "./socket.ts";
import type { SocketComm } from "./tcp.ts";
import type { TlsSettings } from "./tls.ts";

export interface ListenSettings {
  /** A comm whose handshake is done. A throw closes that comm only. */
  readonly onComm: (comm: Comm) => void;
  /** A connection that came to nothing (no TLS, no handshake, broken limit): for the log. */
  readonly onRejected?: (error: Error, peerAddress: string) => void;
  /** Needed for `tls://`. */
  readonly tls?: TlsSettings | undefined;
  readonly limits?: Limits;
  readonly handshake?: HandshakeInfo;
  readonly handshakeTimeoutMs?: number;
  readonly tcpTimeoutMs?: number;
  /** `distributed.comm.socket-backlog` */
  readonly backlog?: number;
  /** `distributed.comm.require-encryption`: refuses to listen on `tcp://`. */
  readonly requireEncryption?: boolean;
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
  /** Stops accepting and aborts what is still in its handshake. Comms handed over stay open. */
  close(): void;
}

/**
 * Starts listening. An empty host means all interfaces, IPv4 and IPv6.
 *
 * @throws where the address cannot be bound, or `tls://` comes without settings.
 */
export async function listen(address: string, settings: ListenSettings): Promise<Listener> {
  const { scheme, loc } = parseAddress(address, settings.tls === undefined ? "tcp" : "tls");
  const { host, port } = parseHostPort(loc, settings.defaultPort ?? 0);
  if (scheme !== "tcp" && scheme !== "tls") throw new TypeError(`cannot listen on '${address}': unknown scheme`);
  if (scheme === "tcp" && settings.requireEncryption === true) {
    throw new TypeError(`encryption required by Dask configuration, refusing communication from/to '${address}'`);
  }
  const accept = new Acceptor(scheme, settings);
  const bindHost = host === "" || host === "0.0.0.0" || host === "::" ? host : await ensureIp(host);
  const server = await bind(() => makeServer(scheme, address, settings, accept), bindHost, {
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
    address: getTcpAddressFromHostPort(shownHost, boundPort, scheme),
    contactAddress: getTcpAddressFromHostPort(contactHost, boundPort, scheme),
    port: boundPort,
    close: () => {
      server.close();
      accept.stop();
    },
  };
}

function makeServer(scheme: string, address: string, settings: ListenSettings, accept: Acceptor): Server {
  let server: Server;
  if (scheme === "tls") {
    if (settings.tls === undefined) throw new TypeError(`cannot listen on '${address}' without TLS certificates`);
    const { secureContext: _, ...tls } = settings.tls;
    const tlsServer = createTlsServer({
      ...tls,
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: settings.handshakeTimeoutMs ?? DEFAULT_TCP_TIMEOUT_MS,
    });
    tlsServer.on("secureConnection", (socket) => void accept.take(socket));
    tlsServer.on("tlsClientError", (error, socket) => accept.reject(error, socket));
    server = tlsServer;
  } else {
    server = createServer((socket) => void accept.take(socket));
  }
  if (settings.maxConnections !== undefined) server.maxConnections = settings.maxConnections;
  return server;
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

  async take(socket: Socket): Promise<void> {
    if (this.#stopped) {
      socket.destroy();
      return;
    }
    const settings = this.#settings;
    const peer = peerOf(this.#scheme, socket);
    let opened: SocketComm | undefined;
    try {
      const comm = await establish(socket, {
        scheme: this.#scheme,
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
async function bind(make: () => Server, host: string, { ports, backlog }: BindSettings): Promise<Server> {
  let last: unknown = new TypeError("no port to listen on");
  for (const port of ports) {
    for (let attempt = 0; attempt < (port === 0 ? 5 : 1); attempt++) {
      try {
        return await bindOnce(make(), port, host, backlog);
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

function bindOnce(server: Server, port: number, host: string, backlog: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, backlog, ...(host === "" ? {} : { host }) }, () => {
      server.off("error", reject);
      // Running out of descriptors while accepting is the only error left; the listener lives on.
      server.on("error", () => undefined);
      resolve(server);
    });
  });
}
