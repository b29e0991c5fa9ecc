/** Python scripts with dask and distributed already imported: forks of one process (`forked_scripts.py`). */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env["DASK_TS_PYTHON"] ?? `${ROOT}.venv/bin/python`;
const SERVER = fileURLToPath(new URL("forked_scripts.py", import.meta.url));

export interface ScriptEnd {
  readonly id: number;
  /** Negative: the number of the signal. */
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export class ForkedScripts {
  readonly #child: ChildProcess;
  readonly #waiting: Map<number, (end: ScriptEnd) => void> = new Map();
  #last = 0;

  constructor(env: Readonly<Record<string, string | undefined>> = process.env) {
    this.#child = spawn(PYTHON, [SERVER], { stdio: ["pipe", "pipe", "inherit"], env });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const end = JSON.parse(line) as ScriptEnd;
      this.#waiting.get(end.id)?.(end);
      this.#waiting.delete(end.id);
    });
    this.#child.once("exit", () => {
      for (const [id, done] of this.#waiting) done({ id, code: 1, out: "", err: "the process that forks has ended" });
      this.#waiting.clear();
    });
  }

  /** Runs a script as `python -c script ...argv` would; resolves at its end. */
  run(script: string, argv: readonly string[] = []): Promise<ScriptEnd> {
    const id = ++this.#last;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.stdin!.write(`${JSON.stringify({ id, script, argv })}\n`);
    });
  }

  /** Ends the scripts too. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await exited;
  }
}
