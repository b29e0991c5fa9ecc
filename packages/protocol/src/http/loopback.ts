/** Whether a peer is on this machine. */

/** @param address as sockets report it: `127.0.0.1`, `::1`, `::ffff:127.0.0.1` */
export function isLoopback(address: string): boolean {
  return address === "::1" || /^(?:::ffff:)?127(?:\.\d+){3}$/.test(address);
}
