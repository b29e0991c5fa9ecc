/**
 * TLS as Dask uses it (distributed.security.Security._get_tls_context): one CA for the cluster, both ends show a
 * certificate of it, host names are not checked, because peers are known by IP.
 */
import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContext, type SecureVersion } from "node:tls";

/** Each of the three is a file name, or the PEM text itself (whatever has a line break is text). */
export interface TlsFiles {
  readonly caFile: string;
  readonly cert: string;
  /** Without it the key is in the same PEM as the certificate. */
  readonly key?: string | null | undefined;
  /** An OpenSSL cipher list for TLS 1.2; TLS 1.3 keeps its own suites. */
  readonly ciphers?: string | null | undefined;
  /** 1.2 (default) or 1.3. */
  readonly minVersion?: number | null | undefined;
  readonly maxVersion?: number | null | undefined;
}

/** What a listener or a connection needs for TLS; made once per process and role. */
export interface TlsSettings {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly ciphers?: string;
  readonly minVersion: SecureVersion;
  readonly maxVersion?: SecureVersion;
  readonly secureContext: SecureContext;
}

/** Node drops TLS 1.3 where a cipher list names none of its suites; OpenSSL's set_cipher_list leaves them alone. */
const TLS13_SUITES = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";

/**
 * Reads the files and checks that they fit together.
 *
 * @throws where a file cannot be read, is no PEM, the key is not the certificate's, or a version is neither 1.2 nor 1.3.
 */
export function loadTls(files: TlsFiles): TlsSettings {
  const cert = readPem(files.cert, "certificate");
  const settings = {
    ca: readPem(files.caFile, "CA"),
    cert,
    key: files.key ? readPem(files.key, "key") : cert,
    minVersion: tlsVersion(files.minVersion, "min-version") ?? "TLSv1.2",
    ...(files.ciphers ? { ciphers: `${TLS13_SUITES}:${files.ciphers}` } : {}),
    ...optionalVersion(files.maxVersion),
  } as const;
  return { ...settings, secureContext: createSecureContext(settings) };
}

function readPem(fileOrText: string, what: string): string {
  if (fileOrText.includes("\n")) return fileOrText;
  try {
    return readFileSync(fileOrText, "utf8");
  } catch (cause) {
    throw new Error(`the TLS ${what} file '${fileOrText}' cannot be read`, { cause });
  }
}

function optionalVersion(version: number | null | undefined): { maxVersion?: SecureVersion } {
  const maxVersion = tlsVersion(version, "max-version");
  return maxVersion === undefined ? {} : { maxVersion };
}

function tlsVersion(version: number | null | undefined, key: string): SecureVersion | undefined {
  if (version === null || version === undefined) return undefined;
  if (version === 1.2) return "TLSv1.2";
  if (version === 1.3) return "TLSv1.3";
  throw new TypeError(`distributed.comm.tls.${key}=${version} is not supported, expected one of [null, 1.2, 1.3]`);
}
