/**
 * `dask-ts ssh`, `dask-ssh`: a scheduler and workers on other hosts (distributed.cli.dask_ssh), by the `ssh` command of
 * the system. `dask-scheduler` and `dask-worker` must be on the PATH there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Command } from "commander";
import { command, integer } from "./flags.ts";
import { onTermination } from "./lifecycle.ts";

/** How long remote processes may take to end before their connections are cut. */
const STOP_TIMEOUT_MS = 15_000;
/** Control-C on the terminal of the other end. */
const INTERRUPT = "\x03";

export interface SshFlags {
  readonly scheduler?: string;
  readonly schedulerPort: number;
  readonly nthreads: number;
  readonly nworkers: number;
  readonly hostfile?: string;
  readonly sshUsername?: string;
  readonly sshPort: number;
  readonly sshPrivateKey?: string;
  readonly nohost: boolean;
  readonly logDirectory?: string;
  readonly localDirectory?: string;
  readonly remotePython?: string;
  readonly memoryLimit: string;
  readonly workerPort: string;
  readonly nannyPort: string;
  readonly remoteDaskWorker: string;
}

export function sshCommand(act: (hosts: readonly string[], flags: SshFlags) => Promise<number> = run): Command {
  const ssh = command("ssh")
    .description("Launch a Dask cluster over SSH: a scheduler, and workers on all hosts.")
    .argument("[hostnames...]")
    .option("--scheduler <host>", "Host of the scheduler [default: the first]")
    .option("--scheduler-port <port>", "Port of the scheduler", integer, 8786)
    .option("--nthreads <n>", "Threads per worker [default: the cores, shared by the workers]", integer, 0)
    .option("--nworkers <n>", "Workers per host", integer, 1)
    .option("--hostfile <file>", "File with a host on each line")
    .option("--ssh-username <name>", "User on the hosts")
    .option("--ssh-port <port>", "Port of SSH", integer, 22)
    .option("--ssh-private-key <file>", "Private key for SSH")
    .option("--nohost", "Do not tell workers the name of their host", false)
    .option("--log-directory <directory>", "Directory on all hosts for the output of scheduler and workers")
    .option("--local-directory <directory>", "Directory on all hosts for the workers' files")
    .option("--remote-python <path>", "Python for graphs and tasks on the hosts")
    .option("--memory-limit <limit>", "As for dask-worker", "auto")
    .option("--worker-port <port>", "As for dask-worker", "0")
    .option("--nanny-port <port>", "As for dask-worker", "0")
    .option("--remote-dask-worker <command>", "Command that starts a worker", "dask-worker");
  return ssh.action(async (hostnames: string[], flags: SshFlags) => {
    const hosts = [...hostnames, ...(flags.hostfile === undefined ? [] : readHosts(flags.hostfile))];
    if (hosts.length === 0) {
      ssh.outputHelp();
      process.exitCode = 1;
      return;
    }
    process.exitCode = await act(hosts, flags);
  });
}

function readHosts(file: string): string[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** A command for one host. */
export interface RemoteCommand {
  readonly host: string;
  readonly role: "scheduler" | "worker";
  readonly argv: readonly string[];
}

/** The scheduler first, then a worker command for each host. */
export function remoteCommands(hosts: readonly string[], flags: SshFlags): RemoteCommand[] {
  const scheduler = flags.scheduler ?? hosts[0]!;
  const python = flags.remotePython === undefined ? [] : ["--python", flags.remotePython];
  const log = ["--log-format", "text"];
  // Stock names a Python module here; what stands in for it is our command.
  const worker = flags.remoteDaskWorker.startsWith("distributed.") ? "dask-worker" : flags.remoteDaskWorker;
  const shared = [
    "--nthreads",
    String(flags.nthreads),
    "--nworkers",
    String(flags.nworkers),
    "--memory-limit",
    flags.memoryLimit,
    "--worker-port",
    flags.workerPort,
    "--nanny-port",
    flags.nannyPort,
    ...(flags.localDirectory === undefined ? [] : ["--local-directory", flags.localDirectory]),
    ...python,
    ...log,
  ];
  return [
    {
      host: scheduler,
      role: "scheduler",
      argv: ["dask-scheduler", "--port", String(flags.schedulerPort), ...python, ...log],
    },
    ...hosts.map((host): RemoteCommand => {
      const own = flags.nohost ? [] : ["--host", host];
      return { host, role: "worker", argv: [worker, `${scheduler}:${flags.schedulerPort}`, ...own, ...shared] };
    }),
  ];
}

/** Arguments of `ssh`. A terminal is asked for, so that the remote process ends with the connection. */
export function sshArguments({ host, role, argv }: RemoteCommand, flags: SshFlags): string[] {
  const line = argv.map(quote).join(" ");
  const directory = flags.logDirectory;
  const file = `${directory}/dask_${role}_${host}.log`;
  return [
    "-tt",
    "-o",
    "BatchMode=yes",
    "-p",
    String(flags.sshPort),
    ...(flags.sshPrivateKey === undefined ? [] : ["-i", flags.sshPrivateKey]),
    flags.sshUsername === undefined ? host : `${flags.sshUsername}@${host}`,
    directory === undefined ? line : `mkdir -p ${quote(directory)} && exec ${line} > ${quote(file)} 2>&1`,
  ];
}

/** For a POSIX shell. */
function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Runs until all remote commands have ended, or a signal; prints what they print. */
async function run(hosts: readonly string[], flags: SshFlags): Promise<number> {
  const commands = remoteCommands(hosts, flags);
  const [scheduler] = commands;
  print(`Dask.distributed over SSH: scheduler at ${scheduler!.host}:${flags.schedulerPort}, workers on`);
  for (const host of hosts) print(`  ${host}`);
  const children = commands.map((one) => start(one, flags));
  let stopping = false;
  onTermination(() => {
    stopping = true;
    for (const { child } of children) child.stdin?.write(INTERRUPT);
    setTimeout(() => {
      for (const { child } of children) child.kill();
    }, STOP_TIMEOUT_MS).unref();
  });
  const codes = await Promise.all(children.map(({ ended }) => ended));
  return stopping ? 0 : Math.max(0, ...codes);
}

function start(
  remote: RemoteCommand,
  flags: SshFlags,
): { readonly child: ChildProcess; readonly ended: Promise<number> } {
  const child = spawn("ssh", sshArguments(remote, flags), { stdio: ["pipe", "pipe", "pipe"] });
  const label = `[ ${remote.role} ${remote.host} ]`;
  for (const output of [child.stdout, child.stderr]) {
    createInterface({ input: output }).on("line", (line) => print(`${label} : ${line.replace(/\r$/, "")}`));
  }
  child.stdin.on("error", () => undefined);
  const ended = new Promise<number>((resolve) => {
    child.once("error", (error) => {
      print(`${label} : ${error.message}`);
      resolve(1);
    });
    child.once("close", (code) => {
      print(`${label} : ended with code ${code ?? "none"}`);
      resolve(code ?? 1);
    });
  });
  return { child, ended };
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
