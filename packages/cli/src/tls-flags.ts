/** `--tls-ca-file`, `--tls-cert`, `--tls-key` as configuration, and for the Python children. */
import type { Config } from "@dask-ts/protocol";
import type { TlsFlags } from "./flags.ts";

/** Configuration keys that say what the flags said, for the Python children. */
export function tlsOverrides(flags: TlsFlags, role: "scheduler" | "worker"): { [key: string]: string } {
  const overrides: { [key: string]: string } = {};
  if (flags.tlsCaFile !== undefined) overrides["distributed.comm.tls.ca-file"] = flags.tlsCaFile;
  if (flags.tlsCert !== undefined) overrides[`distributed.comm.tls.${role}.cert`] = flags.tlsCert;
  if (flags.tlsKey !== undefined) overrides[`distributed.comm.tls.${role}.key`] = flags.tlsKey;
  return overrides;
}

/** The flags as {@link loadSecurity} takes them. */
export function tlsFiles(flags: TlsFlags): { [Name in "caFile" | "cert" | "key"]: string | undefined } {
  return { caFile: flags.tlsCaFile, cert: flags.tlsCert, key: flags.tlsKey };
}

/** `Security.get_connection_args` for clients that tasks open; null without TLS. */
export function securityFields(config: Config, role: "scheduler" | "worker"): Map<string, string> | null {
  const read = (key: string): string | null => config.getString(`distributed.comm.tls.${key}`);
  const fields = new Map<string, string>();
  const add = (name: string, value: string | null): void => {
    if (value !== null) fields.set(name, value);
  };
  add("tls_ca_file", read("ca-file"));
  for (const as of ["client", "worker"]) {
    add(`tls_${as}_cert`, read(`${role}.cert`));
    add(`tls_${as}_key`, read(`${role}.key`));
  }
  return fields.size === 0 ? null : fields;
}
