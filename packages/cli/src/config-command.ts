/** `dask-ts config`: what the configuration says, and where (dask.cli.config). */
import { homedir } from "node:os";
import { extname, join } from "node:path";
import {
  type Config,
  configFiles,
  type ConfigValue,
  formatYaml,
  interpretValue,
  loadConfig,
  readConfigFile,
  searchPaths,
  writeConfigValue,
} from "@dask-ts/protocol";
import type { Command } from "commander";
import { command } from "./flags.ts";

export function configCommand(): Command {
  const config = command("config").description("Show and change Dask's configuration.");
  config
    .command("get")
    .description("Print one value.")
    .argument("<key>", "like distributed.scheduler.worker-ttl")
    .option("--origin", "say where the value comes from too", false)
    .action((key: string, { origin }: { origin: boolean }) => {
      process.exitCode = get(key, origin);
    });
  config
    .command("find")
    .description("List the files that have a key.")
    .argument("<key>")
    .action((key: string) => find(key));
  config
    .command("set")
    .description("Set a key in a file.")
    .argument("<key>")
    .argument("<value>")
    .option("--file <path>", "the file; default: the first that has the key, DASK_CONFIG, or ~/.config/dask/dask.yaml")
    .action((key: string, value: string, { file }: { file?: string }) => set(key, value, file));
  config
    .command("list")
    .description("Print the whole configuration.")
    .action(() => {
      process.stdout.write(formatYaml(load().toObject()));
    });
  return config;
}

function load(): Config {
  return loadConfig({ env: process.env });
}

function get(key: string, withOrigin: boolean): number {
  const config = load();
  if (!config.has(key)) {
    process.stderr.write(`Section not found: ${key}\n`);
    return 1;
  }
  const value = config.get(key);
  const origin = withOrigin ? ` (${config.origin(key) ?? "several"})` : "";
  process.stdout.write(`${show(value)}${origin}\n`);
  return 0;
}

/** As Python's print and PyYAML show it. */
function show(value: ConfigValue): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "object" ? formatYaml(value).trimEnd() : String(value);
}

function files(): string[] {
  return searchPaths(process.env).flatMap(configFiles);
}

function filesWith(key: string): [file: string, value: ConfigValue][] {
  return files().flatMap((file): [string, ConfigValue][] => {
    if (readConfigFile(file) === undefined) return [];
    const config = loadConfig({ env: {}, paths: [file] });
    return config.has(key) && config.origin(key) !== "default" ? [[file, config.get(key)]] : [];
  });
}

function find(key: string): void {
  const found = filesWith(key);
  const lines =
    found.length === 0
      ? [`Unable to find [${key}] in any of the following paths:`, ...searchPaths(process.env)]
      : [`Found [${key}] in the following files:`, ...found.map(([file, value]) => `${file} [${key}=${show(value)}]`)];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function set(key: string, text: string, file: string | undefined): void {
  const value = interpretValue(text);
  const target = file ?? filesWith(key)[0]?.[0] ?? configured() ?? join(homedir(), ".config", "dask", "dask.yaml");
  writeConfigValue(target, key, value);
  process.stdout.write(`Updated [${key}] to [${show(value)}], config saved to ${target}\n`);
}

/** `DASK_CONFIG`, which may be a directory. */
function configured(): string | undefined {
  const path = process.env["DASK_CONFIG"];
  if (path === undefined) return undefined;
  return [".yaml", ".yml"].includes(extname(path)) ? path : join(path, "dask.yaml");
}
