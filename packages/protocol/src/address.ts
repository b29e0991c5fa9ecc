/**
 * Addresses: `scheme://host:port`, IPv6 hosts in brackets (distributed.comm.addressing, distributed.utils.get_ip).
 * Maps and messages hold the resolved form (host as an IP), so that one worker has one spelling.
 */
import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { AddressError } from "./errors.ts";

export const DEFAULT_SCHEME = "tcp";

/** Splits an address into its scheme and the rest. Without `://` the scheme is `defaultScheme`. */
export function parseAddress(address: string, defaultScheme: string = DEFAULT_SCHEME): { scheme: string; loc: string } {
  const at = address.lastIndexOf("://");
  if (at < 0) return { scheme: defaultScheme, loc: address };
  return { scheme: address.slice(0, at), loc: address.slice(at + 3) };
}

/** `tls://[::1]` stays, `[::1]:1` becomes `tcp://[::1]:1`. */
export function normalizeAddress(address: string, defaultScheme: string = DEFAULT_SCHEME): string {
  const { scheme, loc } = parseAddress(address, defaultScheme);
  return `${scheme}://${loc}`;
}

/**
 * Host and port of an address or of a bare `host:port`. The host comes without brackets and may be empty.
 *
 * @throws {AddressError} where the port is missing (and no default is given) or is no port, or IPv6 lacks its brackets.
 */
export function parseHostPort(address: string, defaultPort?: number): { host: string; port: number } {
  const loc = parseAddress(address).loc;
  let host: string;
  let port: string | undefined;
  if (loc.startsWith("[")) {
    const end = loc.indexOf("]");
    if (end < 0) throw badAddress(address);
    host = loc.slice(1, end);
    const tail = loc.slice(end + 1);
    if (tail !== "" && !tail.startsWith(":")) throw badAddress(address);
    port = tail === "" ? undefined : tail.slice(1);
  } else {
    const colon = loc.lastIndexOf(":");
    host = colon < 0 ? loc : loc.slice(0, colon);
    port = colon < 0 ? undefined : loc.slice(colon + 1);
    if (host.includes(":")) throw badAddress(address);
  }
  if (port === undefined) {
    if (defaultPort === undefined) throw new AddressError(`missing port number in address '${address}'`);
    return { host, port: defaultPort };
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    throw new AddressError(`invalid port '${port}' in address '${address}'`);
  }
  return { host, port: Number(port) };
}

function badAddress(address: string): AddressError {
  return new AddressError(`invalid address '${address}'; maybe: ipv6 needs brackets like [::1]`);
}

/** `host:port`, with brackets where the host is IPv6; the host alone where there is no port. */
export function formatHostPort(host: string, port?: number): string {
  const shown = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  return port === undefined ? shown : `${shown}:${port}`;
}

/** The full address of a host and a port. */
export function getTcpAddressFromHostPort(host: string, port: number, scheme: string = DEFAULT_SCHEME): string {
  return `${scheme}://${formatHostPort(host, port)}`;
}

/** The host of an address, without brackets. */
export function getAddressHost(address: string): string {
  return parseHostPort(address, 0).host;
}

/** The port of an address. @throws {AddressError} where it has none. */
export function getAddressPort(address: string): number {
  return parseHostPort(address).port;
}

/**
 * The address with its host resolved to an IP, IPv4 before IPv6 (Dask's resolve_address).
 *
 * @throws the resolver's error (`ENOTFOUND`, …) where the name is unknown.
 */
export async function resolveAddress(address: string, defaultScheme: string = DEFAULT_SCHEME): Promise<string> {
  const { scheme, loc } = parseAddress(address, defaultScheme);
  const { host, port } = parseHostPort(loc);
  return getTcpAddressFromHostPort(await ensureIp(host), port, scheme);
}

/** The IP of a host name; an IP stays as it is, an empty name is localhost (distributed.utils.ensure_ip). */
export async function ensureIp(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  const name = host === "" ? "localhost" : host;
  try {
    return (await lookup(name, { family: 4 })).address;
  } catch {
    return (await lookup(name, { family: 6 })).address;
  }
}

/** `::ffff:1.2.3.4`, as a socket that listens on both stacks names an IPv4 peer, is `1.2.3.4`. */
export function plainIp(ip: string): string {
  return ip.startsWith("::ffff:") && ip.includes(".") ? ip.slice(7) : ip;
}

/**
 * The local IP from which `toward` is reached. Nothing is sent: connecting a UDP socket only picks the route
 * (distributed.utils.get_ip). Falls back to the host's own name, then to 127.0.0.1.
 *
 * @param toward an IP; by default a well-known address on the Internet.
 */
export async function getIp(toward = "8.8.8.8"): Promise<string> {
  const family = isIP(toward) === 6 ? 6 : 4;
  const routed = await routedIp(toward, family);
  if (routed !== undefined && routed !== "0.0.0.0" && routed !== "::") return routed;
  try {
    return (await lookup(hostname(), { family })).address;
  } catch {
    return family === 6 ? "::1" : "127.0.0.1";
  }
}

function routedIp(toward: string, family: 4 | 6): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    const done = (ip: string | undefined): void => {
      socket.close();
      resolve(ip);
    };
    socket.once("error", () => done(undefined));
    socket.connect(80, toward, () => done(socket.address().address));
  });
}

/**
 * The IPv4 address of a network interface (`--interface`).
 *
 * @throws {AddressError} where there is no such interface, or it has no IPv4 address.
 */
export function getIpInterface(name: string): string {
  const interfaces = networkInterfaces();
  const addresses = interfaces[name];
  if (addresses === undefined) {
    const valid = Object.keys(interfaces).map((n) => `'${n}'`);
    throw new AddressError(
      `'${name}' is not a valid network interface. Valid network interfaces are: [${valid.join(", ")}]`,
    );
  }
  const ipv4 = addresses.find((a) => a.family === "IPv4");
  if (ipv4 === undefined) throw new AddressError(`interface '${name}' doesn't have an IPv4 address`);
  return ipv4.address;
}

/** The options with which a process says where it listens. */
export interface ListenOptions {
  readonly host?: string | null | undefined;
  readonly port?: number | null | undefined;
  readonly interface?: string | null | undefined;
  /** `tcp`, `tls`, …, with or without `://`. */
  readonly protocol?: string | null | undefined;
  readonly requireEncryption?: boolean;
  readonly defaultPort?: number;
  readonly defaultScheme?: string;
}

/**
 * The address to listen on from `--host --port --interface --protocol` (Dask's address_from_user_args).
 *
 * @throws {AddressError} where host and interface are given together, or two different ports.
 */
export function addressFromUserArgs(options: ListenOptions): string {
  let protocol = options.protocol ?? (options.requireEncryption === true ? "tls" : "");
  if (protocol.endsWith("://")) protocol = protocol.slice(0, -3);
  let host = options.host ?? "";
  if (options.interface) {
    if (host !== "") throw new AddressError(`Can not specify both interface and host: ${options.interface}, ${host}`);
    host = getIpInterface(options.interface);
  }
  const { scheme, loc } = parseAddress(host, protocol || (options.defaultScheme ?? DEFAULT_SCHEME));
  const bare = loc.includes(":") && !loc.startsWith("[") && isIP(loc) === 6 ? `[${loc}]` : loc;
  const parsed = parseHostPort(bare, options.port ?? options.defaultPort ?? 0);
  if (parsed.port !== 0 && options.port && parsed.port !== options.port) {
    throw new AddressError(`port number given twice in options: host ${host} and port ${options.port}`);
  }
  return getTcpAddressFromHostPort(parsed.host, parsed.port, protocol || scheme);
}
