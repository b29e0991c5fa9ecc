/** The address schemes of comms (distributed.comm.registry.backends). */
import { AddressError } from "../errors.ts";

export interface Scheme {
  readonly name: string;
  readonly encrypted: boolean;
  readonly webSocket: boolean;
}

const SCHEMES: ReadonlyMap<string, Scheme> = new Map(
  [
    { name: "tcp", encrypted: false, webSocket: false },
    { name: "tls", encrypted: true, webSocket: false },
    { name: "ws", encrypted: false, webSocket: true },
    { name: "wss", encrypted: true, webSocket: true },
  ].map((scheme) => [scheme.name, scheme]),
);

/** Schemes that stock has and this process cannot: why, and what to use. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ["inproc", "inproc:// joins what runs in one Python process; use tcp:// between processes"],
  ["ucx", "ucx:// needs the Python package distributed-ucxx and its own workers; use tcp:// here"],
]);

/** @throws {AddressError} for a scheme that is unknown or not to be had here. */
export function schemeOf(name: string, address: string): Scheme {
  const scheme = SCHEMES.get(name);
  if (scheme !== undefined) return scheme;
  const why = ELSEWHERE.get(name);
  throw new AddressError(
    `unknown address scheme '${name}' in '${address}' (known schemes: ${[...SCHEMES.keys()].join(", ")})` +
      (why === undefined ? "" : `: ${why}`),
  );
}
