/** Where the scheduler listens, by its options. */
import { addressFromUserArgs, getAddressHost } from "@dask-ts/protocol";
import type { SchedulerOptions } from "./options.ts";
import type { SchedulerSettings } from "./settings.ts";

export const DEFAULT_PORT = 8786;

/** distributed.comm.addressing.addresses_from_user_args */
export function startAddresses(
  options: SchedulerOptions,
  settings: SchedulerSettings,
  requireEncryption: boolean,
): string[] {
  const hosts = listOf(options.host);
  const ports = listOf(options.port);
  const interfaces = listOf(options.interface);
  const protocols = listOf(options.protocol);
  const n = Math.max(hosts.length, ports.length, interfaces.length, protocols.length);
  return Array.from({ length: n }, (_, i) =>
    addressFromUserArgs({
      host: hosts[i] ?? (hosts.length === 1 ? hosts[0] : null),
      port: ports[i] ?? (ports.length === 1 ? ports[0] : null),
      interface: interfaces[i] ?? (interfaces.length === 1 ? interfaces[0] : null),
      protocol: protocols[i] ?? (protocols.length === 1 ? protocols[0] : null),
      requireEncryption,
      defaultPort: DEFAULT_PORT,
      defaultScheme: settings.defaultScheme,
    }),
  );
}

function listOf<T>(value: T | readonly T[] | null | undefined): readonly (T | null)[] {
  if (value === null || value === undefined) return [null];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** Host of the contact address, where one is given. */
export function contactHost(contactAddress: string | null | undefined): string | undefined {
  return contactAddress ? getAddressHost(contactAddress) : undefined;
}
