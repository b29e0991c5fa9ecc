import { describe, expect, test } from "vitest";
import { readSpec } from "../src/spec-options.ts";

test("a scheduler, as SSHCluster and cloud deployers start it", () => {
  const opts = {
    host: "10.0.0.1",
    protocol: "tls",
    dashboard_address: ":8787",
    idle_timeout: "5 minutes",
    dashboard: true,
    preload: ["a", "b.py"],
    worker_ttl: 60,
    interface: null,
    security: { tls_ca_file: "/ca.pem", tls_scheduler_cert: "/c.pem", require_encryption: true },
  };
  expect(readSpec({ cls: "dask.distributed.Scheduler", opts })).toEqual([
    {
      role: "scheduler",
      argv: [
        "--host=10.0.0.1",
        "--protocol=tls",
        "--dashboard-address=:8787",
        "--idle-timeout=5 minutes",
        "--dashboard",
        "--preload=a",
        "--preload=b.py",
        "--port=0",
      ],
      config: {
        "distributed.scheduler.worker-ttl": 60,
        "distributed.comm.tls.ca-file": "/ca.pem",
        "distributed.comm.tls.scheduler.cert": "/c.pem",
        "distributed.comm.require-encryption": true,
      },
      scheduler: undefined,
      contactAddress: undefined,
    },
  ]);
});

test("workers by their names, with nannies and without", () => {
  const servers = readSpec({
    alice: {
      cls: "distributed.Nanny",
      opts: {
        nthreads: 2,
        name: "alice",
        memory_limit: 2e9,
        resources: { GPU: 2, MEM: 10 },
        env: { A: "1" },
        config: { distributed: { worker: { memory: { target: false } } } },
        lifetime_restart: true,
        silence_logs: 30,
      },
    },
    bob: {
      cls: "distributed.worker.Worker",
      opts: {
        nanny: false,
        scheduler_ip: "10.0.0.1",
        scheduler_port: 8786,
        port: "9000:9010",
        contact_address: "tcp://b:1",
      },
    },
    carol: { cls: "distributed.Worker" },
  });
  expect(servers).toMatchObject([
    {
      role: "nanny",
      argv: [
        "--nthreads=2",
        "--name=alice",
        "--memory-limit=2000000000",
        "--resources=GPU=2 MEM=10",
        "--lifetime-restart",
      ],
      config: { "distributed.nanny.environ": { A: "1" }, "distributed.worker.memory.target": false },
    },
    {
      role: "worker",
      argv: ["--worker-port=9000:9010", "--no-nanny"],
      scheduler: "10.0.0.1:8786",
      contactAddress: "tcp://b:1",
    },
    { role: "worker", argv: ["--no-nanny"] },
  ]);
});

describe("refused with a sentence", () => {
  test.each([
    [{ cls: "dask_cuda.CUDAWorker", opts: {} }, /"dask_cuda.CUDAWorker" is a Python class/],
    [{ cls: "mypackage.Worker", opts: {} }, /is a Python class/],
    [{ cls: "distributed.Worker", opts: { data: {} } }, /the option 'data' is not available here/],
    [{ cls: "distributed.Worker", opts: { name: ["a"] } }, /'name' takes one value/],
    [{ cls: "distributed.Scheduler", opts: { security: { extra: 1 } } }, /security: the field 'extra'/],
    [{ a: 1 }, /a server of a specification is a mapping/],
    ["text", /a specification is a mapping/],
  ])("%j", (spec, text) => {
    expect(() => readSpec(spec)).toThrow(text);
  });
});
