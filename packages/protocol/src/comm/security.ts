/** What configuration and command line say about comms: TLS, timeouts, compression (distributed.security.Security). */
import { isCompression } from "../compression.ts";
import type { Config } from "../config/config.ts";
import { ConfigError } from "../config/config.ts";
import type { HandshakeInfo } from "../handshake.ts";
import { type ConnectSettings, DEFAULT_CONNECT_TIMEOUT_MS } from "./connect.ts";
import type { ListenSettings } from "./listen.ts";
import { DEFAULT_TCP_TIMEOUT_MS } from "./socket.ts";
import { loadTls, type TlsSettings } from "./tls.ts";
import { DEFAULT_SHARD_BYTES } from "./ws-stream.ts";

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
  /** What is wrong with the configuration, but stops nothing: sentences for the log. */
  readonly warnings: readonly string[];
}

/**
 * Reads `distributed.comm.*` for a role; flags win. Encryption is required where the configuration says so or, if it
 * says nothing, where a TLS flag is given.
 *
 * @throws {ConfigError} where a value is wrong, or flags are given that do not make up a whole.
 * @throws where a file cannot be read or files do not fit together.
 */
export function loadSecurity(config: Config, role: Role, flags: TlsFlags = {}): Security {
  const text = (key: string): string | null => config.getString(`distributed.comm.tls.${key}`);
  const caFile = flags.caFile ?? text("ca-file");
  const cert = flags.cert ?? text(`${role}.cert`);
  const key = flags.key ?? text(`${role}.key`);
  const required = config.get("distributed.comm.require-encryption");
  const hasFlag = flags.caFile !== undefined || flags.cert !== undefined || flags.key !== undefined;
  const requireEncryption = required === null ? hasFlag : config.getBoolean("distributed.comm.require-encryption");
  if (hasFlag && !(caFile && cert)) {
    throw new ConfigError("TLS needs a CA and a certificate: give both --tls-ca-file and --tls-cert (and --tls-key)");
  }
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
  const shardBytes = config.getBytes("distributed.comm.websockets.shard") ?? DEFAULT_SHARD_BYTES;
  const warnings: string[] = [];
  const handshake: HandshakeInfo = { compression: readCompression(config, warnings) };
  return {
    requireEncryption,
    tls,
    connect: {
      tls,
      handshake,
      requireEncryption,
      tcpTimeoutMs,
      timeoutMs: connectTimeoutMs,
      shardBytes,
      defaultScheme: config.getString("distributed.comm.default-scheme") ?? "tcp",
    },
    listen: {
      tls,
      handshake,
      tcpTimeoutMs,
      requireEncryption,
      handshakeTimeoutMs: connectTimeoutMs,
      shardBytes,
      backlog: config.getNumber("distributed.comm.socket-backlog"),
    },
    warnings,
  };
}

/**
 * What to offer to peers for `distributed.comm.compression`, null for none. "auto" is lz4 wherever stock has that. A
 * name that Python may know and this does not (snappy, zstd, one that a module registers) is a warning: with nothing
 * offered all works, uncompressed.
 */
function readCompression(config: Config, warnings: string[]): string | null {
  const value = config.get("distributed.comm.compression");
  if (value === false || value === null) return null;
  if (value === "auto") return "lz4";
  if (typeof value === "string" && isCompression(value)) return value;
  warnings.push(
    `distributed.comm.compression=${String(value)} is not known here: nothing is compressed. ` +
      "Use false, 'auto', 'lz4' or 'zlib'.",
  );
  return null;
}

function version(config: Config, name: string): number | null {
  const key = `distributed.comm.tls.${name}`;
  const value = config.get(key);
  if (value === null || value === 1.2 || value === 1.3) return value;
  throw new ConfigError(`${key}=${JSON.stringify(value)} is not supported, expected one of [null, 1.2, 1.3]`);
}
