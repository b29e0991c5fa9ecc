/**
 * Python children that are forked from one process with their module imported already
 * (`packages/python/dask_ts/fork_server.py`): each starts in milliseconds instead of a second, and shares the memory of
 * what is imported. Figures: docs/decisions/executor.md.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type ChildEnd, lastWords, type Launched, type LaunchOptions, launchProcess, outputRead } from "./launch.ts";

/** The length of what a connection of a child begins with: `number role`, padded. */
const HEAD_BYTES = 24;
const ROLES = ["bridge", "stdout", "stderr"] as const;
type Role = (typeof ROLES)[number];

interface Fork {
  readonly sockets: Map<Role, Socket>;
  readonly resolve: (launched: Launched) => void;
  readonly reject: (error: Error) => void;
  readonly end: (end: ChildEnd) => void;
  readonly exited: Promise<ChildEnd>;
  readonly number: number;
  pid: number;
  alive: boolean;
}

export interface ForkServerOptions extends LaunchOptions {
  /** What the server itself writes: a failing import, mostly. */
  readonly onLine?: (stream: "stdout" | "stderr", line: string) => void;
}

/** The server's process and its children. It does not keep this process alive; the children do. */
export class ForkServer {
  readonly #process: Launched;
  readonly #listener: Server;
  readonly #directory: string;
  readonly #forks: Map<number, Fork> = new Map();
  #nextNumber = 1;
  #gone = false;
  #ready: () => void = () => {};

  private constructor(launched: Launched, listener: Server, directory: string) {
    this.#process = launched;
    this.#listener = listener;
    this.#directory = directory;
    createInterface({ input: launched.socket }).on("line", (line) =>
      this.#onMessage(JSON.parse(line) as ServerMessage),
    );
    launched.socket.on("error", () => {}); // its end says it better
    void launched.ended.then((end) => this.#onEnd(end));
    launched.unref();
    listener.unref();
    process.once("exit", this.#clear);
  }

  readonly #clear = (): void => rmSync(this.#directory, { recursive: true, force: true });

  /**
   * Starts the server and waits until the module is imported.
   *
   * @throws {Error} where it ends before, with its last lines.
   */
  static async start({ module, onLine, ...options }: ForkServerOptions): Promise<ForkServer> {
    // only this user may connect, and so pass for a child
    const directory = mkdtempSync(join(tmpdir(), "dask-ts-fork-"));
    const listener = createServer();
    try {
      await new Promise<void>((resolve, reject) => {
        listener.once("error", reject);
        listener.listen(join(directory, "s"), resolve);
      });
      const launched = await launchProcess({
        ...options,
        module: "dask_ts.fork_server",
        args: [module],
        lending: true,
      });
      const words: string[] = [];
      for (const name of ["stdout", "stderr"] as const) {
        createInterface({ input: launched[name] }).on("line", (line) => {
          words.push(line);
          onLine?.(name, line);
        });
      }
      const server = new ForkServer(launched, listener, directory);
      listener.on("connection", (socket) => server.#onConnection(socket));
      await new Promise<void>((resolve, reject) => {
        server.#ready = resolve;
        void launched.ended.then(() => reject(new Error(`${module} cannot be imported:\n${words.join("\n")}`)));
      });
      words.length = 0;
      return server;
    } catch (error) {
      listener.close();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** False when it is gone, with all its children. */
  get alive(): boolean {
    return !this.#gone;
  }

  /**
   * A new child. Its environment is the server's, with the changes of `env`; what its imports read is what was there
   * when the server started.
   *
   * @throws {Error} where the server or the child ends before the child has connected.
   */
  fork({ env = {}, cwd }: Pick<LaunchOptions, "env" | "cwd">): Promise<Launched> {
    if (this.#gone) return Promise.reject(new Error("the fork server is gone"));
    const number = this.#nextNumber++;
    return new Promise<Launched>((resolve, reject) => {
      let end: (end: ChildEnd) => void = () => {};
      const exited = new Promise<ChildEnd>((settle) => {
        end = settle;
      });
      this.#forks.set(number, { sockets: new Map(), resolve, reject, end, exited, number, pid: -1, alive: true });
      const changes = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value ?? null]));
      const request = { fork: number, socket: join(this.#directory, "s"), env: changes, cwd: cwd ?? null };
      this.#process.socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Ends the server; the kernel ends children that are still there. */
  async close(): Promise<void> {
    this.#process.socket.end();
    await this.#process.ended;
  }

  #onMessage(message: ServerMessage): void {
    if ("ready" in message) {
      this.#ready();
    } else if ("forked" in message) {
      const fork = this.#forks.get(message.forked);
      if (fork === undefined) return;
      fork.pid = message.pid;
      this.#connected(fork);
    } else {
      this.#exited(message.exited, message);
    }
  }

  #onConnection(socket: Socket): void {
    socket.on("error", () => {});
    socket.on("readable", function onReadable() {
      const head = socket.read(HEAD_BYTES) as Buffer | null;
      if (head === null) return;
      socket.off("readable", onReadable);
      assign(head.toString("latin1").trim().split(" "));
    });
    const assign = ([number, role]: string[]): void => {
      const fork = this.#forks.get(Number(number));
      if (fork === undefined) {
        socket.destroy();
        return;
      }
      fork.sockets.set(role as Role, socket);
      this.#connected(fork);
    };
  }

  /** Hands the child over once its process is known and all its connections are there. */
  #connected(fork: Fork): void {
    if (fork.pid === -1 || fork.sockets.size < ROLES.length) return;
    const [socket, stdout, stderr] = ROLES.map((role) => fork.sockets.get(role)) as [Socket, Socket, Socket];
    const read = outputRead([stdout, stderr]);
    fork.resolve({
      pid: fork.pid,
      socket,
      stdout,
      stderr,
      ended: fork.exited.then(async (end) => {
        await lastWords(read, [stdout, stderr]);
        return end;
      }),
      lend: (lent, number) => this.#process.lend(lent, number, fork.number),
      unref: () => {
        for (const stream of [socket, stdout, stderr]) stream.unref();
      },
      kill: () => {
        // the server has not reaped it before it says so: the number is still this child's
        if (fork.alive) process.kill(fork.pid, "SIGKILL");
      },
    });
  }

  #exited(number: number, { code, signal }: ChildEnd): void {
    const fork = this.#forks.get(number);
    if (fork === undefined) return;
    this.#forks.delete(number);
    fork.alive = false;
    fork.end({ code, signal });
    fork.reject(new Error(`the child ended (${signal ?? code}) before it had connected`)); // nothing where it had
  }

  #onEnd(end: ChildEnd): void {
    this.#gone = true;
    this.#listener.close();
    this.#clear();
    process.off("exit", this.#clear);
    for (const number of this.#forks.keys()) this.#exited(number, { code: null, signal: end.signal ?? "SIGKILL" });
  }
}

type ServerMessage =
  | { readonly ready: true }
  | { readonly forked: number; readonly pid: number }
  | ({ readonly exited: number } & ChildEnd);
