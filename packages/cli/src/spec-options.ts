/** What the keyword arguments of `distributed.Scheduler`, `Worker` and `Nanny` in a specification mean here. */
import type { ConfigValue } from "@dask-ts/protocol";
import { UsageError } from "./worker-layout.ts";

export type SpecRole = "scheduler" | "worker" | "nanny";

/** One server of a specification, as the command line and configuration that lead to the same. */
export interface SpecServer {
  readonly role: SpecRole;
  readonly argv: readonly string[];
  readonly config: Readonly<Record<string, ConfigValue>>;
  /** The scheduler's address, where the specification has one. */
  readonly scheduler: string | undefined;
  readonly contactAddress: string | undefined;
}

/** `--flag value`, `--flag`/`--no-flag`, `--flag value` for each, a configuration key, or nothing at all. */
type Rule =
  | { readonly flag: string }
  | { readonly toggle: string }
  | { readonly each: string }
  | { readonly key: string }
  | "resources"
  | "security"
  | "config"
  | "scheduler"
  | "scheduler-port"
  | "contact-address"
  | "without effect";

const flag = (name: string): Rule => ({ flag: `--${name}` });
const key = (name: string): Rule => ({ key: `distributed.${name}` });

const COMMON: Readonly<Record<string, Rule>> = {
  host: flag("host"),
  interface: flag("interface"),
  protocol: flag("protocol"),
  dashboard: { toggle: "dashboard" },
  dashboard_address: flag("dashboard-address"),
  scheduler_file: flag("scheduler-file"),
  preload: { each: "--preload" },
  security: "security",
  contact_address: "contact-address",
  // Objects of the Python process that stock's server would live in.
  asynchronous: "without effect",
  loop: "without effect",
  silence_logs: "without effect",
  quiet: "without effect",
};

const SCHEDULER: Readonly<Record<string, Rule>> = {
  ...COMMON,
  port: flag("port"),
  http_prefix: flag("dashboard-prefix"),
  idle_timeout: flag("idle-timeout"),
  jupyter: { toggle: "jupyter" },
  preload_argv: key("scheduler.preload-argv"),
  allowed_failures: key("scheduler.allowed-failures"),
  worker_ttl: key("scheduler.worker-ttl"),
  validate: key("scheduler.validate"),
  contact_address: key("scheduler.contact-address"),
};

const WORKER: Readonly<Record<string, Rule>> = {
  ...COMMON,
  scheduler_ip: "scheduler",
  scheduler_port: "scheduler-port",
  scheduler_sni: flag("scheduler-sni"),
  port: flag("worker-port"),
  nthreads: flag("nthreads"),
  ncores: flag("nthreads"),
  name: flag("name"),
  memory_limit: flag("memory-limit"),
  local_directory: flag("local-directory"),
  local_dir: flag("local-directory"),
  resources: "resources",
  death_timeout: flag("death-timeout"),
  lifetime: flag("lifetime"),
  lifetime_stagger: flag("lifetime-stagger"),
  lifetime_restart: { toggle: "lifetime-restart" },
  preload_argv: key("worker.preload-argv"),
  validate: key("worker.validate"),
  http_prefix: "without effect",
  // A Worker that is told so has no nanny; a Nanny is asked for by its class.
  nanny: "without effect",
  reconnect: "without effect",
};

const NANNY: Readonly<Record<string, Rule>> = {
  ...WORKER,
  port: flag("nanny-port"),
  worker_port: flag("worker-port"),
  listen_address: flag("listen-address"),
  worker_class: flag("worker-class"),
  preload_nanny: { each: "--preload-nanny" },
  preload_nanny_argv: key("nanny.preload-argv"),
  env: key("nanny.environ"),
  config: "config",
};

const RULES: Readonly<Record<SpecRole, Readonly<Record<string, Rule>>>> = {
  scheduler: SCHEDULER,
  worker: WORKER,
  nanny: NANNY,
};

const ROLES: ReadonlyMap<string, SpecRole> = new Map([
  ["Scheduler", "scheduler"],
  ["Worker", "worker"],
  ["Nanny", "nanny"],
]);

/** Fields of `distributed.Security`, as configuration. */
const SECURITY: Readonly<Record<string, string>> = {
  require_encryption: "distributed.comm.require-encryption",
  tls_ca_file: "distributed.comm.tls.ca-file",
  tls_ciphers: "distributed.comm.tls.ciphers",
  tls_min_version: "distributed.comm.tls.min-version",
  tls_max_version: "distributed.comm.tls.max-version",
  ...Object.fromEntries(
    ["scheduler", "worker", "client"].flatMap((role) => [
      [`tls_${role}_cert`, `distributed.comm.tls.${role}.cert`],
      [`tls_${role}_key`, `distributed.comm.tls.${role}.key`],
    ]),
  ),
};

/**
 * The servers of `{"cls", "opts"}` or `{name: {"cls", "opts"}}`.
 *
 * @throws {UsageError} for a class or an option that cannot be had here.
 */
export function readSpec(spec: ConfigValue): SpecServer[] {
  const tree = mapping(spec, "a specification");
  if (typeof tree["cls"] === "string") return [readServer(tree)];
  return Object.values(tree).map((server) => readServer(mapping(server, "a server of a specification")));
}

function readServer(server: Readonly<Record<string, ConfigValue>>): SpecServer {
  const { cls } = server;
  const role = typeof cls === "string" ? ROLES.get(cls.slice(cls.lastIndexOf(".") + 1)) : undefined;
  if (role === undefined || !/^(dask\.)?distributed\./.test(String(cls))) {
    throw new UsageError(
      `"cls": ${JSON.stringify(cls)} is a Python class that this command cannot run; it stands in for ` +
        "distributed.Scheduler, distributed.Worker and distributed.Nanny. Use stock's `dask spec` for others",
    );
  }
  const opts = server["opts"] === undefined ? {} : mapping(server["opts"], '"opts"');
  const out = new Builder(role);
  for (const [name, value] of Object.entries(opts)) {
    const rule = RULES[role][name];
    if (rule === undefined) throw new UsageError(`${String(cls)}: the option '${name}' is not available here`);
    if (value !== null) out.apply(name, rule, value);
  }
  return out.done(opts);
}

class Builder {
  readonly #role: SpecRole;
  readonly #argv: string[] = [];
  readonly #config: Record<string, ConfigValue> = {};
  #scheduler: string | undefined;
  #schedulerPort: string | undefined;
  #contactAddress: string | undefined;

  constructor(role: SpecRole) {
    this.#role = role;
  }

  apply(name: string, rule: Rule, value: ConfigValue): void {
    if (typeof rule === "object") {
      if ("flag" in rule) this.#argv.push(`${rule.flag}=${scalar(name, value)}`);
      else if ("toggle" in rule) this.#argv.push(value === false ? `--no-${rule.toggle}` : `--${rule.toggle}`);
      else if ("each" in rule) for (const one of list(value)) this.#argv.push(`${rule.each}=${scalar(name, one)}`);
      else this.#config[rule.key] = value;
      return;
    }
    switch (rule) {
      case "resources": {
        const pairs = Object.entries(mapping(value, "resources"));
        this.#argv.push(`--resources=${pairs.map(([resource, n]) => `${resource}=${scalar(resource, n)}`).join(" ")}`);
        return;
      }
      case "security":
        for (const [field, item] of Object.entries(mapping(value, "security"))) {
          const target = SECURITY[field];
          if (target === undefined) throw new UsageError(`security: the field '${field}' is not available here`);
          this.#config[target] = item;
        }
        return;
      case "config":
        flatten(mapping(value, "config"), "", this.#config);
        return;
      case "scheduler":
        this.#scheduler = scalar(name, value);
        return;
      case "scheduler-port":
        this.#schedulerPort = scalar(name, value);
        return;
      case "contact-address":
        this.#contactAddress = scalar(name, value);
        return;
      case "without effect":
        return;
      default:
        rule satisfies never;
    }
  }

  done(opts: Readonly<Record<string, ConfigValue>>): SpecServer {
    // Scheduler(port=0) takes any port, where the command's default is 8786.
    if (this.#role === "scheduler" && (opts["port"] ?? null) === null) this.#argv.push("--port=0");
    if (this.#role === "worker") this.#argv.push("--no-nanny");
    const port = this.#schedulerPort;
    return {
      role: this.#role,
      argv: this.#argv,
      config: this.#config,
      scheduler: this.#scheduler === undefined || port === undefined ? this.#scheduler : `${this.#scheduler}:${port}`,
      contactAddress: this.#contactAddress,
    };
  }
}

/** Dotted keys, as far down as there are mappings: what is said beside them stays. */
function flatten(tree: Readonly<Record<string, ConfigValue>>, prefix: string, into: Record<string, ConfigValue>): void {
  for (const [name, value] of Object.entries(tree)) {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) flatten(value, `${prefix}${name}.`, into);
    else into[`${prefix}${name}`] = value;
  }
}

function mapping(value: ConfigValue | undefined, what: string): Readonly<Record<string, ConfigValue>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new UsageError(`${what} is a mapping, not ${JSON.stringify(value)}`);
}

function scalar(name: string, value: ConfigValue): string {
  if (typeof value === "object")
    throw new UsageError(`the option '${name}' takes one value, not ${JSON.stringify(value)}`);
  return String(value);
}

function list(value: ConfigValue): readonly ConfigValue[] {
  return Array.isArray(value) ? value : [value];
}
