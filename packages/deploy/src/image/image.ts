/** `dask-ts deploy image build|push|remove`: the image of this checkout, here and in the account's registry. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { openClients } from "../aws/clients.ts";
import { DEPLOY_FOLDER } from "../aws/kinds.ts";
import { DeployError, progress, result } from "../command.ts";
import { packageVersion } from "../version.ts";
import {
  deleteRepository,
  emptyRepository,
  ensureRepository,
  findRepository,
  getLogin,
  type Login,
} from "./registry.ts";

export interface ImageFlags {
  readonly repository: string;
  readonly tag?: string;
  /** A stage of the Dockerfile, `notebook` for the notebook variant. */
  readonly target?: string;
  readonly engine: string;
  readonly platform?: string;
  readonly buildArg: readonly string[];
  readonly region?: string;
}

/** Builds the image. @returns its local names: the version's, and `latest`. */
export async function buildImage(flags: ImageFlags): Promise<string[]> {
  const root = resolve(DEPLOY_FOLDER, "..");
  const dockerfile = `${DEPLOY_FOLDER}Dockerfile`;
  if (!existsSync(dockerfile))
    throw new DeployError(`there is no ${dockerfile}: run this in a clone of the repository`);
  const names = tagsFor(flags).map((tag) => `${flags.repository}:${tag}`);
  await run(flags.engine, [
    "build",
    "--file",
    dockerfile,
    ...(flags.target === undefined ? [] : ["--target", flags.target]),
    ...(flags.platform === undefined ? [] : ["--platform", flags.platform]),
    ...names.flatMap((name) => ["--tag", name]),
    // Before the user's: of two with one name the last counts.
    ...[...labelArguments(root), ...flags.buildArg].flatMap((one) => ["--build-arg", one]),
    root,
  ]);
  for (const name of names) result(name);
  return names;
}

/** Builds the image, and pushes it to the repository of its name, which is made where there is none. */
export async function pushImage(flags: ImageFlags): Promise<void> {
  const names = await buildImage(flags);
  const { ecr } = openClients(flags.region);
  const uri = await ensureRepository(ecr, flags.repository);
  await logIn(flags.engine, await getLogin(ecr));
  for (const name of names) {
    const remote = `${uri}:${name.slice(name.lastIndexOf(":") + 1)}`;
    await run(flags.engine, ["tag", name, remote]);
    await run(flags.engine, ["push", remote]);
    result(remote);
  }
}

/** Deletes the repository with all its images. */
export async function removeImages(flags: Pick<ImageFlags, "repository" | "region">): Promise<void> {
  const { ecr } = openClients(flags.region);
  if ((await findRepository(ecr, flags.repository)) === undefined) {
    progress(`There is no repository '${flags.repository}'.`);
    return;
  }
  const count = await emptyRepository(ecr, flags.repository);
  await deleteRepository(ecr, flags.repository);
  result(`Deleted the repository '${flags.repository}' and its ${count} images.`);
}

function tagsFor({ tag, target }: ImageFlags): string[] {
  const suffix = target === undefined ? "" : `-${target}`;
  return tag === undefined ? [`${packageVersion()}${suffix}`, `latest${suffix}`] : [tag];
}

/** What the Dockerfile makes labels of: the version, and the commit and origin where this is a clone. */
function labelArguments(root: string): string[] {
  const git = (...args: readonly string[]): string => {
    const { status, stdout } = spawnSync("git", ["-C", root, ...args], { encoding: "utf8" });
    return status === 0 ? stdout.trim() : "";
  };
  const revision = git("rev-parse", "HEAD");
  // A URL may hold a password.
  const source = git("remote", "get-url", "origin").replace(/^(\w+:\/\/)[^/]*@/, "$1");
  const known = [`VERSION=${packageVersion()}`];
  if (revision !== "") {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    known.push(`REVISION=${revision}${changed ? "-changed" : ""}`);
  }
  if (/^\w+:\/\//.test(source)) known.push(`SOURCE=${source}`);
  return known;
}

/** The password goes over stdin: arguments are seen by every user of the machine. */
async function logIn(engine: string, { user, password, registry }: Login): Promise<void> {
  await run(engine, ["login", "--username", user, "--password-stdin", registry], password);
}

/** Runs the engine's command, its output on stderr. @throws {DeployError} where it fails. */
async function run(engine: string, args: readonly string[], input?: string): Promise<void> {
  // The Dockerfile needs BuildKit; clients before release 23 use it only where they are told to.
  const env = { DOCKER_BUILDKIT: "1", ...process.env };
  const child = spawn(engine, args, { env, stdio: [input === undefined ? "ignore" : "pipe", 2, 2] });
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(input);
  const code = await new Promise<number>((done, fail) => {
    child.once("error", (error) => fail(new DeployError(`cannot run ${engine}: ${error.message}`, { cause: error })));
    child.once("close", (status) => done(status ?? 1));
  });
  if (code !== 0) throw new DeployError(`\`${engine} ${args[0]}\` failed with code ${code}`);
}
