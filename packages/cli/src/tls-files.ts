/** TLS from flags, else from `distributed.comm.tls.*` (distributed.security.Security). */
import { type Config, loadTls, type TlsSettings } from "@dask-ts/protocol";
import type { TlsFlags } from "./flags.ts";
import { UsageError } from "./worker-layout.ts";

/** Configuration keys that say what the flags said, for the Python children. */
export function tlsOverrides(flags: TlsFlags, role: "scheduler" | "worker"): { [key: string]: string } {
  const overrides: { [key: string]: string } = {};
  if (flags.tlsCaFile !== undefined) overrides["distributed.comm.tls.ca-file"] = flags.tlsCaFile;
  if (flags.tlsCert !== undefined) overrides[`distributed.comm.tls.${role}.cert`] = flags.tlsCert;
  if (flags.tlsKey !== undefined) overrides[`distributed.comm.tls.${role}.key`] = flags.tlsKey;
  return overrides;
}

/**
 * The settings for one role; undefined where no certificate is configured.
 *
 * @throws {UsageError} where only a part is configured.
 */
export function tlsSettings(config: Config, role: "scheduler" | "worker"): TlsSettings | undefined {
  const read = (key: string): string | null => config.getString(`distributed.comm.tls.${key}`);
  const caFile = read("ca-file");
  const cert = read(`${role}.cert`);
  if (caFile === null && cert === null) return undefined;
  if (caFile === null || cert === null) {
    throw new UsageError(`TLS needs a CA and a certificate: give both --tls-ca-file and --tls-cert (and --tls-key)`);
  }
  return loadTls({
    caFile,
    cert,
    key: read(`${role}.key`),
    ciphers: read("ciphers"),
    minVersion:
      config.get("distributed.comm.tls.min-version") === null
        ? null
        : config.getNumber("distributed.comm.tls.min-version"),
    maxVersion:
      config.get("distributed.comm.tls.max-version") === null
        ? null
        : config.getNumber("distributed.comm.tls.max-version"),
  });
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
