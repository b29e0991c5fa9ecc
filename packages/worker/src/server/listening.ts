/** Where the worker listens (Worker.start_unsafe). */
import {
  addressFromUserArgs,
  ensureIp,
  getAddressHost,
  getIp,
  type Listener,
  listen,
  type ListenSettings,
  parseAddress,
} from "@dask-ts/protocol";
import type { WorkerOptions } from "./options.ts";

type ListeningOptions = Pick<WorkerOptions, "host" | "interface" | "protocol" | "ports" | "tls">;

/**
 * Listens on what the options say; by default on all interfaces, and peers are told the one from which the scheduler
 * is reached.
 *
 * @throws where none of the ports is free, or host and interface contradict each other.
 */
export async function listenWorker(
  options: ListeningOptions,
  schedulerAddress: string,
  settings: Pick<ListenSettings, "onComm" | "onRejected">,
): Promise<Listener> {
  const protocol = options.protocol ?? parseAddress(schedulerAddress).scheme;
  const ports = options.ports ?? [0];
  const address = addressFromUserArgs({
    host: options.host,
    interface: options.interface,
    protocol,
    port: ports.length === 1 ? (ports[0] ?? 0) : 0,
  });
  return listen(address, {
    ...settings,
    tls: options.tls,
    ...(ports.length > 1 ? { ports } : {}),
    contactHost: await contactHost(schedulerAddress),
  });
}

/** This host's IP as the scheduler sees it. */
export async function contactHost(schedulerAddress: string): Promise<string> {
  return getIp(await ensureIp(getAddressHost(schedulerAddress)));
}

/** `--dashboard-address`: `:0`, `8790`, `host:port`, each with a path that becomes the prefix of all routes. */
export function parseDashboardAddress(
  text: string,
  workerHost: string | null,
): { host: string; port: number; prefix: string } {
  const match = /^(?:https?:\/\/)?(?:(\[[^\]]*\]|[^:/]*):)?(\d+)?(\/.*)?$/.exec(text);
  if (match === null) throw new TypeError(`a dashboard address is like ":8787" or "0.0.0.0:8787", not "${text}"`);
  const host = (match[1] ?? "").replaceAll(/[[\]]/g, "");
  // Without a host, stock listens on all interfaces; a worker that listens on one only keeps to that one.
  const fallback = workerHost === null || workerHost === "" ? "0.0.0.0" : workerHost;
  return { host: host === "" ? fallback : host, port: Number(match[2] ?? 0), prefix: match[3] ?? "" };
}
