/** What configuration and command line say about TLS and timeouts (distributed.security.Security). */
import type { Config } from "../config/config.ts";
import { ConfigError } from "../config/config.ts";
import { type ConnectSettings, DEFAULT_CONNECT_TIMEOUT_MS } from "./connect.ts";
import type { ListenSettings } from "./listen.ts";
import { DEFAULT_TCP_TIMEOUT_MS } from "./socket.ts";
import { loadTls, type TlsSettings } from "./tls.ts";

export type Role = "scheduler" | "worker" | "client";

/** `--tls-ca-file`, `--tls-cert`, `--tls-key`. */
export interface TlsFlags {
  readonly caFile?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** How one role of this process opens and accepts comms. */
export interface Security {
  readonly requireEncryption: boolean;
  /** Undefined where CA and certificate are not both given. */
  readonly tls: TlsSettings | undefined;
  readonly connect: ConnectSettings;
  readonly listen: Omit<ListenSettings, "onComm">;
}

/**
 * Reads `distributed.comm.*` for a role; flags win. Encryption is required where the configuration says so or, if it
 * says nothing, where a TLS flag is given.
 *
 * @throws where a file cannot be read or files do not fit together.
 */
export function loadSecurity(config: Config, role: Role, flags: TlsFlags = {}): Security {
  const text = (key: string): string | null => config.getString(`distributed.comm.tls.${key}`);
  const caFile = flags.caFile ?? text("ca-file");
  const cert = flags.cert ?? text(`${role}.cert`);
  const key = flags.key ?? text(`${role}.key`);
  const required = config.get("distributed.comm.require-encryption");
  const requireEncryption =
    required === null
      ? flags.caFile !== undefined || flags.cert !== undefined || flags.key !== undefined
      : config.getBoolean("distributed.comm.require-encryption");
  let tls: TlsSettings | undefined;
  if (caFile && cert) {
    tls = loadTls({
      caFile,
      cert,
      key,
      ciphers: text("ciphers"),
      minVersion: version(config, "min-version"),
      maxVersion: version(config, "max-version"),
    });
  }
  const tcpTimeoutMs = config.getMs("distributed.comm.timeouts.tcp") ?? DEFAULT_TCP_TIMEOUT_MS;
  const connectTimeoutMs = config.getMs("distributed.comm.timeouts.connect") ?? DEFAULT_CONNECT_TIMEOUT_MS;
  return {
    requireEncryption,
    tls,
    connect: {
      tls,
      requireEncryption,
      tcpTimeoutMs,
      timeoutMs: connectTimeoutMs,
      defaultScheme: config.getString("distributed.comm.default-scheme") ?? "tcp",
    },
    listen: {
      tls,
      tcpTimeoutMs,
      requireEncryption,
      handshakeTimeoutMs: connectTimeoutMs,
      backlog: config.getNumber("distributed.comm.socket-backlog"),
    },
  };
}

function version(config: Config, name: string): number | null {
  const key = `distributed.comm.tls.${name}`;
  const value = config.get(key);
  if (value === null || value === 1.2 || value === 1.3) return value;
  throw new ConfigError(`${key}=${JSON.stringify(value)} is not supported, expected one of [null, 1.2, 1.3]`);
}
