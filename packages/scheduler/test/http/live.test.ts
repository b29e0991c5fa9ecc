/** What HTTP clients of all kinds do to a cluster that works: event streams, proxied workers, the API, pages. */
import { createHash, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "@dask-ts/protocol";
import { TestCluster, until } from "../server/cluster.ts";

const TOKEN = "correct horse";
const HOSTILE = `<script>alert("x")</script>`;

let cluster: TestCluster;
let base: string;

beforeAll(async () => {
  const defaults = loadConfig({ env: {}, paths: [] }).getStrings("distributed.scheduler.http.routes");
  cluster = await TestCluster.start({
    config: loadConfig({
      env: {},
      paths: [],
      overrides: {
        "distributed.scheduler.http.routes": [...defaults, "distributed.http.scheduler.api", "some.python.module"],
        "distributed.scheduler.http.api-token": TOKEN,
      },
    }),
    dashboardPrefix: "pre",
  });
  base = `http://127.0.0.1:${cluster.scheduler.httpPort}/pre`;
  await cluster.worker("--name", HOSTILE);
});
afterAll(() => cluster.stop());

/** A WebSocket client of few means: unmasked texts in, none out but what the test masks. */
class EventStreamClient {
  readonly messages: Record<string, unknown>[] = [];
  readonly socket: Socket;
  status = 0;
  #buffer: Buffer = Buffer.alloc(0);

  constructor(port: number, path: string) {
    const key = randomBytes(16).toString("base64");
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("error", () => undefined);
    this.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    this.socket.on("data", (chunk: Buffer) => {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
      this.#read(key);
    });
  }

  send(text: string): void {
    const body = Buffer.from(text);
    this.socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]));
  }

  #read(key: string): void {
    if (this.status === 0) {
      const end = this.#buffer.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = this.#buffer.subarray(0, end).toString("latin1");
      this.status = Number(head.split(" ")[1]);
      const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
      expect(head).toContain(`Sec-WebSocket-Accept: ${accept}`);
      this.#buffer = this.#buffer.subarray(end + 4);
    }
    for (;;) {
      const short = (this.#buffer[1] ?? 0) & 0x7f;
      const header = short === 126 ? 4 : 2;
      if (this.#buffer.length < header) return;
      const length = short === 126 ? this.#buffer.readUInt16BE(2) : short;
      if (this.#buffer.length < header + length) return;
      const body = this.#buffer.subarray(header, header + length);
      if (((this.#buffer[0] ?? 0) & 0x0f) === 1) {
        this.messages.push(JSON.parse(body.toString()) as Record<string, unknown>);
      }
      this.#buffer = this.#buffer.subarray(header + length);
    }
  }
}

test("the event stream tells what happens, and listens only while somebody does", async () => {
  const { listeners, state } = cluster.scheduler.core;
  const before = listeners.transition.length;
  const worker = [...state.workers.keys()][0];
  const stream = new EventStreamClient(cluster.scheduler.httpPort ?? 0, "/pre/eventstream");
  await until(() => stream.messages.length > 0, "the workers there are");
  expect(stream.messages).toEqual([{ worker, name: "add_worker" }]);
  expect(listeners.transition.length).toBe(before + 1);
  await cluster.client(`report(x=c.submit(inc, 1, key=("inc-x", 0)).result())`);
  const named = (name: string): Record<string, unknown>[] =>
    stream.messages.filter((message) => message["name"] === name);
  await until(() => named("remove_client").length > 0, "the client to go");
  expect(stream.messages.map(({ name }) => name)).toEqual([
    "add_worker",
    "add_client",
    "update_graph",
    "transition",
    "remove_client",
  ]);
  const [transition] = named("transition");
  expect(transition).toMatchObject({
    key: ["inc-x", 0],
    status: "OK",
    action: "compute",
    worker,
    typename: "int",
    nbytes: 28,
    start: expect.any(Number),
    stop: expect.any(Number),
    thread: expect.any(Number),
    color: expect.stringMatching(/^#[0-9A-F]{6}$/),
    startstops: [expect.objectContaining({ action: "compute" })],
    stimulus_id: expect.stringMatching(/^task-finished/),
  });
  // The pickled type is no JSON.
  expect(transition).not.toHaveProperty("type");
  stream.send('{"name": "ping"}');
  stream.send("no json");
  await until(() => named("pong").length > 0, "a pong");
  stream.socket.destroy();
  await until(() => listeners.transition.length === before, "the listener to go");
});

test("a plain GET of the event stream leaves nothing behind", async () => {
  const before = cluster.scheduler.core.listeners.transition.length;
  expect((await fetch(`${base}/eventstream`)).status).toBe(400);
  expect(cluster.scheduler.core.listeners.transition.length).toBe(before);
});

test("workers are reached through the proxy, and nothing else is", async () => {
  const [ws] = cluster.scheduler.core.state.workers.values();
  const port = String(ws?.services.get("dashboard"));
  const direct = await fetch(`http://127.0.0.1:${port}/health`);
  const through = await fetch(`${base}/proxy/${port}/127.0.0.1/health`);
  expect([through.status, await through.text()]).toEqual([200, await direct.text()]);
  expect((await fetch(`${base}/proxy/${port}/127.0.0.1/nope`)).status).toBe(404);
  // The scheduler's own port, another name of the host, nonsense.
  for (const path of [`${cluster.scheduler.httpPort}/127.0.0.1/health`, `${port}/localhost/health`, "1/<i>/x"]) {
    const reply = await fetch(`${base}/proxy/${path}`);
    expect([path, reply.status]).toEqual([path, 400]);
    expect(await reply.text()).not.toContain("<i>");
  }
});

test("the API is for who knows the token", async () => {
  const get = (authorization?: string): Promise<Response> =>
    fetch(`${base}/api/v1/get_workers`, authorization === undefined ? {} : { headers: { authorization } });
  expect((await get()).status).toBe(401);
  expect((await get("Bearer wrong")).status).toBe(401);
  expect((await get(`Basic ${TOKEN}`)).status).toBe(401);
});

test("unknown route modules are named in the log", () => {
  expect(cluster.lines("WARNING").join("\n")).toContain("some.python.module");
});

test("names that are markup stay text, in every page", async () => {
  await cluster.client(`
    def bad():
        raise ValueError("${HOSTILE.replaceAll('"', '\\"')}")
    f = c.submit(bad, key=${JSON.stringify(`${HOSTILE}-1`)})
    wait(f)
    report(state=f.status)
  `);
  const { paths } = (await (await fetch(`${base}/sitemap.json`)).json()) as { paths: string[] };
  const pages = paths.filter((path) => !/[*:]|eventstream|api\/v1|statics|static\//.test(path));
  expect(pages.length).toBeGreaterThan(50);
  let mentions = 0;
  for (const path of pages) {
    const reply = await fetch(`${base}${path}`);
    const body = await reply.text();
    expect([path, reply.status]).toEqual([path, 200]);
    if (!reply.headers.get("content-type")?.startsWith("text/html")) continue;
    expect(body, path).not.toContain("<script");
    expect(body, path).not.toMatch(/(?:href|src)="[/]/);
    expect(reply.headers.get("content-security-policy"), path).toContain("default-src 'none'");
    expect(reply.headers.has("x-frame-options")).toBe(false);
    if (body.includes("&lt;script&gt;")) mentions++;
  }
  expect(mentions).toBeGreaterThan(3);
});

test("every plot that is listed is there, and shows something", async () => {
  const plots = (await (await fetch(`${base}/individual-plots.json`)).json()) as Record<string, string>;
  expect(Object.keys(plots)).toContain("Individual Workers Memory");
  for (const path of Object.values(plots)) {
    const body = await (await fetch(`${base}${path}`)).text();
    expect([path, body.includes("not here yet")]).toEqual([path, false]);
  }
});
