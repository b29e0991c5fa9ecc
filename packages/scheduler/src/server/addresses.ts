/** Where the scheduler listens, by its options. */
import { addressFromUserArgs, getAddressHost } from "@dask-ts/protocol";
import type { SchedulerOptions } from "./options.ts";

export const DEFAULT_PORT = 8786;

/** distributed.comm.addressing.addresses_from_user_args */
export function startAddresses(
  options: Pick<SchedulerOptions, "host" | "port" | "interface" | "protocol">,
  defaultScheme: string,
  requireEncryption: boolean,
): string[] {
  const { host, port, interface: networkInterface, protocol } = options;
  // Lists go together, as far as the shortest one; what is no list goes with each element.
  const lengths = [host, port, networkInterface, protocol].filter(Array.isArray).map((list) => list.length);
  const n = lengths.length === 0 ? 1 : Math.min(...lengths);
  return Array.from({ length: n }, (_, i) =>
    addressFromUserArgs({
      host: at(host, i),
      port: at(port, i),
      interface: at(networkInterface, i),
      protocol: at(protocol, i),
      requireEncryption,
      defaultPort: DEFAULT_PORT,
      defaultScheme,
    }),
  );
}

function at<T>(value: T | readonly T[] | null | undefined, i: number): T | null {
  if (value === null || value === undefined) return null;
  return Array.isArray(value) ? ((value as readonly T[])[i] ?? null) : (value as T);
}

/** Host of the contact address, where one is given. */
export function contactHost(contactAddress: string | null | undefined): string | undefined {
  return contactAddress ? getAddressHost(contactAddress) : undefined;
}
