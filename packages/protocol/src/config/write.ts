/** Configuration as YAML, and single values of a file (dask.config's command line). */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type Document, parseDocument, stringify, YAMLMap } from "yaml";
import { ConfigError } from "./config.ts";
import { canonicalName, type ConfigValue } from "./value.ts";

/** A value as YAML text. */
export function formatYaml(value: ConfigValue): string {
  return stringify(value, { version: "1.1" });
}

/**
 * Sets one dotted key of a YAML file, which is made where there is none; comments and order stay.
 *
 * @throws {ConfigError} where the file is no YAML mapping.
 */
export function writeConfigValue(file: string, key: string, value: ConfigValue): void {
  const document: Document = parseDocument(existsSync(file) ? readFileSync(file, "utf8") : "", { version: "1.1" });
  if (document.errors.length > 0 || (document.contents !== null && !(document.contents instanceof YAMLMap))) {
    throw new ConfigError(`'${file}' is no YAML mapping: ${document.errors[0]?.message ?? "it has another type"}`);
  }
  document.contents ??= document.createNode({});
  const path: string[] = [];
  for (const part of key.split(".")) {
    const at: unknown = document.getIn(path);
    const known = at instanceof YAMLMap ? Object.fromEntries(at.items.map((item) => [String(item.key), null])) : {};
    path.push(canonicalName(part, known));
  }
  for (let n = 1; n < path.length; n++) {
    const parent = path.slice(0, n);
    if (!(document.getIn(parent) instanceof YAMLMap)) document.setIn(parent, document.createNode({}));
  }
  // A scalar takes the place of another's value: its comment stays.
  document.setIn(path, typeof value === "object" && value !== null ? document.createNode(value) : value);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, document.toString());
}
