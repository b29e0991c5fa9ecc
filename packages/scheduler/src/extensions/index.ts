/** The extensions that every scheduler has (distributed.scheduler.DEFAULT_EXTENSIONS). */
import type { SchedulerExtension } from "../server/context.ts";
import { ActiveMemory } from "./active-memory.ts";
import { Events } from "./events.ts";
import { MemorySampler } from "./memory-sampler.ts";
import { MultiLocks } from "./multi-locks.ts";
import { Publish } from "./publish.ts";
import { Queues } from "./queues.ts";
import { Semaphores } from "./semaphores.ts";
import { Shuffle } from "./shuffle.ts";
import { Spans } from "./spans.ts";
import { SystemMonitor } from "./system-monitor.ts";
import { Stealing } from "./stealing.ts";
import { Variables } from "./variables.ts";

export function standardExtensions(): SchedulerExtension[] {
  return [
    new Queues(),
    new Variables(),
    new Semaphores(),
    new MultiLocks(),
    new Events(),
    new Publish(),
    new MemorySampler(),
    new Shuffle(),
    new Spans(),
    new Stealing(),
    new ActiveMemory(),
    new SystemMonitor(),
  ];
}
