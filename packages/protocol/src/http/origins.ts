/** Which pages of others may open WebSockets here (bokeh.server.util.check_allowlist, tornado's check_origin). */
import type { IncomingHttpHeaders } from "node:http";

/**
 * A browser says which page a WebSocket is for. The server's own pages may, also behind a proxy that says the name it is
 * reached by; clients that are no browsers say nothing and may too.
 *
 * @param allowed `host`, `host:port`, with stars for parts of names; a host without a port means port 80.
 */
export function isAllowedOrigin(headers: IncomingHttpHeaders, allowed: readonly string[]): boolean {
  const { origin } = headers;
  if (origin === undefined) return true;
  const host = originHost(origin);
  if (host === undefined) return false;
  const own = [headers.host, ...[headers["x-forwarded-host"] ?? []].flat().flatMap((value) => value.split(","))];
  if (own.some((name) => name !== undefined && withPort(name.trim()) === host)) return true;
  return allowed.some((pattern) => matches(withPort(pattern), host));
}

function originHost(origin: string): string | undefined {
  const match = /^[a-z][a-z0-9+.-]*:\/\/([^/?#@]+)$/i.exec(origin);
  return match?.[1] === undefined ? undefined : withPort(match[1]);
}

function withPort(host: string): string {
  const name = host.toLowerCase();
  return /:\d+$|:\*$|^\*$/.test(name) ? name : `${name}:80`;
}

/** Parts of the name are compared one by one; a star stands for any. */
function matches(pattern: string, host: string): boolean {
  if (pattern === "*") return true;
  const [wantedName, wantedPort] = splitPort(pattern);
  const [name, port] = splitPort(host);
  if (wantedPort !== "*" && wantedPort !== port) return false;
  const wanted = wantedName.split(".");
  const parts = name.split(".");
  return wanted.length === parts.length && wanted.every((part, i) => part === "*" || part === parts[i]);
}

function splitPort(host: string): [string, string] {
  const colon = host.lastIndexOf(":");
  return [host.slice(0, colon), host.slice(colon + 1)];
}
