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

type ListeningOptions = Pick<WorkerOptions, "host" | "interface" | "protocol" | "ports" | "comms">;

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
    ...options.comms?.listen,
    ...settings,
    ...(ports.length > 1 ? { ports } : {}),
    contactHost: await contactHost(schedulerAddress),
  });
}

/**
 * This host's IP as the scheduler sees it. Where the scheduler's name is not known yet (service discovery is told of it
 * when it runs), the one of the default route; connecting resolves the name anew at each try.
 */
export async function contactHost(schedulerAddress: string): Promise<string> {
  const scheduler = await ensureIp(getAddressHost(schedulerAddress)).catch(() => undefined);
  return await getIp(scheduler);
}
