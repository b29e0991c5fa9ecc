import { describe, expect, test } from "vitest";
import { Controller } from "../../src/scaling/controller.ts";

/** A scheduler and a service that write down, in order, what is asked of them. */
function setUp(options: { desired: number; wishes: (number | Error)[]; closable?: string[]; failing?: string }) {
  const calls: string[] = [];
  const log: string[] = [];
  let { desired } = options;
  const controller = new Controller({
    scheduler: {
      adaptiveTarget: async (duration) => {
        expect(duration).toBe(60);
        const wish = options.wishes.shift();
        if (wish === undefined || wish instanceof Error) throw wish ?? new Error("no more wishes");
        return wish;
      },
      workersToClose: async (target) => {
        calls.push(`workers to close for ${target}`);
        return options.closable ?? [];
      },
      retire: async (workers, close) => void calls.push(`${close ? "close" : "empty"} ${workers.join(" ")}`),
    },
    service: {
      desired: async () => desired,
      setDesired: async (count) => {
        calls.push(`desired ${count}`);
        if (options.failing !== undefined) throw new Error(options.failing);
        desired = count;
      },
    },
    limits: { minimum: 0, maximum: 5, waitCount: 2 },
    targetDurationS: 60,
    log: (level, message) => void log.push(`${level} ${message}`),
  });
  return { controller, calls, log };
}

async function looks(controller: Controller, count: number): Promise<void> {
  for (let look = 0; look < count; look++) await controller.look();
}

describe("Controller", () => {
  test("sets a higher number at once", async () => {
    const { controller, calls, log } = setUp({ desired: 1, wishes: [3, 3] });
    await looks(controller, 2);
    expect(calls).toEqual(["desired 3"]);
    expect(log).toEqual(["INFO Workers: 1 -> 3 (the scheduler wishes for 3)"]);
  });

  test("empties workers, then sets the number, then closes the workers", async () => {
    const { controller, calls } = setUp({ desired: 3, wishes: [1, 1], closable: ["tcp://a", "tcp://b"] });
    await looks(controller, 2);
    expect(calls).toEqual(["workers to close for 1", "empty tcp://a tcp://b", "desired 1", "close tcp://a tcp://b"]);
  });

  test("workers that have not come yet need no retirement", async () => {
    const { controller, calls } = setUp({ desired: 3, wishes: [1, 1], closable: [] });
    await looks(controller, 2);
    expect(calls).toEqual(["workers to close for 1", "desired 1"]);
  });

  test("retired workers end also where the number cannot be set: they would get no tasks", async () => {
    const { controller, calls, log } = setUp({ desired: 3, wishes: [1, 1], closable: ["tcp://a"], failing: "denied" });
    await looks(controller, 2);
    expect(calls.at(-1)).toBe("close tcp://a");
    expect(log.at(-1)).toBe("WARNING The number of workers stays: denied");
  });

  test("a scheduler that does not answer changes nothing, and is logged once", async () => {
    const gone = (): Error => new Error("Timed out trying to connect");
    const { controller, calls, log } = setUp({ desired: 3, wishes: [1, gone(), gone(), 1, 1] });
    await looks(controller, 4);
    expect(calls).toEqual([]);
    expect(log).toEqual([
      "WARNING The number of workers stays: Timed out trying to connect",
      "INFO The scheduler and the service answer again",
    ]);
    // The low wish before the silence does not count any more.
    await looks(controller, 1);
    expect(calls.at(-1)).toBe("desired 1");
  });
});
