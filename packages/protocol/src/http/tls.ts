/** HTTPS of the HTTP port (`distributed.scheduler.dashboard.tls.*`, which holds for workers too). */
import { readFileSync } from "node:fs";
import type { Config } from "../config/config.ts";
import { ConfigError } from "../config/config.ts";

export interface HttpTls {
  readonly key: Buffer;
  readonly cert: Buffer;
  readonly ca?: Buffer;
}

/**
 * Undefined where no certificate is configured. A key that is not named is expected in the certificate's file.
 *
 * @throws {ConfigError} where a file cannot be read.
 */
export function loadHttpTls(config: Config): HttpTls | undefined {
  const read = (name: string): Buffer | undefined => {
    const key = `distributed.scheduler.dashboard.tls.${name}`;
    const path = config.getString(key);
    if (path === null || path === "") return undefined;
    try {
      return readFileSync(path);
    } catch (error) {
      throw new ConfigError(`${key} names a file that cannot be read: ${(error as Error).message}`, { cause: error });
    }
  };
  const cert = read("cert");
  if (cert === undefined) return undefined;
  const ca = read("ca-file");
  return { cert, key: read("key") ?? cert, ...(ca === undefined ? {} : { ca }) };
}
