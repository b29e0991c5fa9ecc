import { describe, expect, it } from "vitest";
import {
  apportionPorts,
  layoutWorkers,
  parsePorts,
  parseResources,
  UsageError,
  workerName,
} from "../src/worker-layout.ts";

describe("layoutWorkers", () => {
  it.each([
    [undefined, 0, 8, { nworkers: 1, nthreads: 8 }],
    ["2", 0, 8, { nworkers: 2, nthreads: 4 }],
    ["2", 1, 8, { nworkers: 2, nthreads: 1 }],
    ["-1", 0, 8, { nworkers: 8, nthreads: 1 }],
    ["-3", 0, 8, { nworkers: 6, nthreads: 1 }],
    ["16", 0, 8, { nworkers: 16, nthreads: 1 }],
    ["auto", 0, 4, { nworkers: 4, nthreads: 1 }],
    ["auto", 0, 8, { nworkers: 4, nthreads: 2 }],
    ["auto", 0, 32, { nworkers: 8, nthreads: 4 }],
    ["auto", 0, 12, { nworkers: 4, nthreads: 3 }],
  ])("--nworkers %s --nthreads %d on %d cores", (nworkers, nthreads, cores, expected) => {
    expect(layoutWorkers(nworkers, nthreads, cores)).toEqual(expected);
  });

  it.each(["0", "-9", "two"])("refuses --nworkers %s", (nworkers) => {
    expect(() => layoutWorkers(nworkers, 0, 8)).toThrow(UsageError);
  });
});

describe("ports", () => {
  it("reads a port, a range, nothing", () => {
    expect(parsePorts("3000")).toEqual([3000]);
    expect(parsePorts("3000:3002")).toEqual([3000, 3001, 3002]);
    expect(parsePorts(undefined)).toEqual([0]);
  });

  it.each([":8787", "a", "3:1", "1:70000"])("refuses %s", (text) => {
    expect(() => parsePorts(text)).toThrow(UsageError);
  });

  it("deals a range in rounds without a repeat", () => {
    const ports = apportionPorts("3000:3006", "3004:3009", 3, true);
    const all = ports.flatMap((p) => [...p.worker, ...p.nanny]);
    expect(new Set(all).size).toBe(all.length);
    for (const p of ports) {
      expect(p.worker.length).toBeGreaterThan(0);
      expect(p.nanny.length).toBeGreaterThan(0);
    }
  });

  it("gives every worker port 0 where none is named", () => {
    expect(apportionPorts(undefined, undefined, 2, true)).toEqual([
      { worker: [0], nanny: [0] },
      { worker: [0], nanny: [0] },
    ]);
  });

  it("refuses a range that is too small", () => {
    expect(() => apportionPorts("3000:3001", undefined, 3, true)).toThrow(/Not enough ports/);
  });
});

describe("resources and names", () => {
  it("reads resources", () => {
    expect(parseResources("GPU=2 MEM=10e9")).toEqual(
      new Map([
        ["GPU", 2],
        ["MEM", 10e9],
      ]),
    );
    expect(parseResources("A=1,B=2")).toEqual(
      new Map([
        ["A", 1],
        ["B", 2],
      ]),
    );
    expect(() => parseResources("A")).toThrow(UsageError);
  });

  it("makes names as stock does", () => {
    expect(workerName("12", 0, 1)).toBe(12);
    expect(workerName("alice", 0, 1)).toBe("alice");
    expect(workerName("alice", 1, 2)).toBe("alice-1");
    expect(workerName(undefined, 1, 2)).toBeUndefined();
  });
});
