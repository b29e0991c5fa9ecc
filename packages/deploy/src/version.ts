/** The tag of images that are built from this checkout. */
import { readFileSync } from "node:fs";

const FILE = new URL("../package.json", import.meta.url);

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(FILE, "utf8")) as { readonly version: string };
  return version;
}
