/** `--dashboard-address` (distributed.utils.clean_dashboard_address) and the link to what is served there. */

export interface HttpAddress {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
}

/** All interfaces, as stock listens where no host is given. */
const ANY_HOST = "0.0.0.0";

/**
 * The addresses of a flag: `8787`, `:8787`, `host:port`, `[::1]:8787`, with or without `http://`; several are separated
 * by commas. A host without a port gets a free one.
 *
 * @throws {TypeError} where it is none of these.
 */
export function parseDashboardAddress(text: string, defaultHost: string = ANY_HOST): HttpAddress[] {
  return text.split(",").map((part) => {
    const match = /^(?:https?:\/\/)?(?:(\[[^\]]*\]|[^:/[\]\s]*):)?(\d+)?\/?$/.exec(part.trim());
    const hostOnly = /^(?:https?:\/\/)?([\w.-]*[A-Za-z.][\w.-]*|\[[^\]]*\])\/?$/.exec(part.trim());
    const host = (match?.[1] ?? (match === null ? hostOnly?.[1] : undefined) ?? "").replaceAll(/[[\]]/g, "");
    const port = Number(match?.[2] ?? 0);
    if ((match === null && hostOnly === null) || port > 65535) {
      throw new TypeError(`a dashboard address is like ":8787" or "0.0.0.0:8787", not "${part}"`);
    }
    return { host: host === "" ? defaultHost : host, port };
  });
}

/**
 * `distributed.dashboard.link`, a format string of scheme, host, port and the environment, with the prefix put in
 * before its last part.
 *
 * @returns undefined, and tells which, where a name is unknown.
 */
export function formatDashboardLink(
  template: string,
  known: { readonly scheme: string; readonly host: string; readonly port: number; readonly prefix: string },
  env: Readonly<Record<string, string | undefined>>,
  onUnknown: (name: string) => void,
): string | undefined {
  const names: Readonly<Record<string, string>> = {
    scheme: known.scheme,
    host: known.host.includes(":") ? `[${known.host}]` : known.host,
    port: String(known.port),
  };
  let unknown: string | undefined;
  const link = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const value = names[name] ?? env[name];
    if (value === undefined) unknown ??= name;
    return value ?? "";
  });
  if (unknown !== undefined) {
    onUnknown(unknown);
    return undefined;
  }
  const prefix = known.prefix.replaceAll(/^\/+|\/+$/g, "");
  return prefix === "" ? link : link.replace(/\/status$/, `/${prefix}/status`);
}
