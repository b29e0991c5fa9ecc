/** The HTTP routes, beside a stock worker and client. */
import { createServer } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "@dask-ts/protocol";
import { TestCluster } from "../server/cluster.ts";

let cluster: TestCluster;
let base: string;

beforeAll(async () => {
  const routes = ["prometheus", "info", "json", "api"].map((name) => `distributed.http.scheduler.${name}`);
  cluster = await TestCluster.start({
    config: loadConfig({
      env: {},
      paths: [],
      overrides: { "distributed.scheduler.http.routes": [...routes, "distributed.http.health"] },
    }),
    dashboardPrefix: "/some/where/",
  });
  base = `http://127.0.0.1:${cluster.scheduler.httpPort}/some/where`;
  await cluster.worker("--name", "alice");
  // The task goes with its client; its error stays.
  await cluster.client(`
    f = c.submit(inc, 1, key="<inc & co>")
    report(wait=f.result(), bad=raises(lambda: c.submit(operator.truediv, 1, 0).result()))
  `);
});
afterAll(() => cluster.stop());

async function get(path: string): Promise<{ status: number; type: string; body: string }> {
  const response = await fetch(`${base}/${path}`, { redirect: "manual" });
  return { status: response.status, type: response.headers.get("content-type") ?? "", body: await response.text() };
}

test("health, and nothing outside the prefix", async () => {
  expect(await get("health")).toEqual({ status: 200, type: "text/plain; charset=utf-8", body: "ok" });
  expect((await get("readyz")).status).toBe(200);
  expect((await get("nope")).status).toBe(404);
  expect((await fetch(`http://127.0.0.1:${cluster.scheduler.httpPort}/health`)).status).toBe(404);
  const root = await fetch(base, { redirect: "manual" });
  expect([root.status, root.headers.get("location")]).toEqual([301, "where/status"]);
});

test("pages", async () => {
  const address = encodeURIComponent([...cluster.scheduler.core.state.workers.keys()][0] ?? "");
  for (const path of [
    "status",
    "info/main/workers.html",
    "info/main/exceptions.html",
    "info/main/logs.html",
    `info/worker/${address}.html`,
    `info/logs/${address}.html`,
    `info/call-stacks/${address}.html`,
    "json/index.html",
  ]) {
    const { status, type, body } = await get(path);
    expect([path, status, type]).toEqual([path, 200, "text/html; charset=UTF-8"]);
    expect(body).not.toMatch(/href="\//);
  }
  expect((await get("info/worker/unknown.html")).status).toBe(404);
  expect((await get("info/task/unknown.html")).status).toBe(404);
  expect((await get("info/task/%zz.html")).status).toBe(400);
  expect((await get("info/main/exceptions.html")).body).toContain("ZeroDivisionError");
});

test("JSON", async () => {
  const counts = JSON.parse((await get("json/counts.json")).body) as Record<string, number>;
  expect(counts).toMatchObject({ workers: 1, cores: 1, hosts: 1, clients: 1, processing: 0 });
  const identity = JSON.parse((await get("json/identity.json")).body) as Record<string, unknown>;
  expect(identity).toMatchObject({ type: "Scheduler", n_workers: 1, total_threads: 1 });
  expect(JSON.parse((await get("api/v1/get_workers")).body)).toMatchObject({ num_workers: 1 });
  expect(JSON.parse((await get("sitemap.json")).body)).toHaveProperty("paths");
  const post = (body: string): Promise<Response> => fetch(`${base}/api/v1/retire_workers`, { method: "POST", body });
  expect((await post("no json")).status).toBe(400);
  expect(await (await post('{"workers": []}')).json()).toEqual({});
  expect((await get("api/v1/retire_workers")).status).toBe(405);
});

test("metrics", async () => {
  const { body, type } = await get("metrics");
  expect(type).toBe("text/plain; version=0.0.4; charset=utf-8");
  for (const line of [
    "dask_scheduler_clients 0",
    "dask_scheduler_client_connections_added_total 1",
    'dask_scheduler_workers{state="idle"} 1',
    'dask_scheduler_tasks{state="processing"} 0',
    'dask_scheduler_prefix_state_totals_total{task_prefix_name="truediv",state="erred"} 1',
    "dask_scheduler_tasks_forgotten_total 0",
  ]) {
    expect(body.split("\n")).toContain(line);
  }
});

test("a port that is taken costs a warning", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => {
    other.listen(0, "127.0.0.1", resolve);
  });
  const address = other.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const second = await TestCluster.start({ dashboardAddress: `127.0.0.1:${port}` });
  expect(second.scheduler.httpPort).not.toBe(port);
  expect(second.lines("WARNING").join("\n")).toContain(`Port ${port} is already in use`);
  await second.stop();
  other.close();
});
