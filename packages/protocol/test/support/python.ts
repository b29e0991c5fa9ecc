/** Stock Python peers for tests: a script that prints one JSON line per event and reads commands from its stdin. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env["DASK_TS_PYTHON"] ?? `${ROOT}.venv/bin/python`;

export class PythonPeer {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #waiting: ((line: string | undefined) => void) | undefined;
  #ended = false;
  #stderr = "";

  /** Runs a script of the test folder. */
  constructor(script: string, args: readonly string[] = [], env: Record<string, string> = {}) {
    const file = fileURLToPath(new URL(script, import.meta.url));
    this.#child = spawn(PYTHON, [file, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED: "False", ...env },
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    const lines = createInterface({ input: this.#child.stdout! });
    lines.on("line", (line) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting === undefined) this.#lines.push(line);
      else waiting(line);
    });
    lines.on("close", () => {
      this.#ended = true;
      this.#waiting?.(undefined);
    });
  }

  /** The next event. @throws where the script ended; its stderr is in the text. */
  async next<T = Record<string, unknown>>(): Promise<T> {
    const line =
      this.#lines.shift() ??
      (this.#ended ? undefined : await new Promise<string | undefined>((resolve) => (this.#waiting = resolve)));
    if (line === undefined) throw new Error(`the Python peer ended:\n${this.#stderr}`);
    return JSON.parse(line) as T;
  }

  tell(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await exited;
  }
}
