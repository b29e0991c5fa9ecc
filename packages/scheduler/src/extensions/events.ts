/** `distributed.Event` (distributed.event.EventExtension): flags by name, kept only while set or waited for. */
import { type Comm, keyId, type Message, type RpcContext, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { optionalNumber } from "../server/fields.ts";
import { deadlineOf, Waiters } from "./waiters.ts";

interface EventFlag {
  set: boolean;
  readonly waiters: Waiters;
}

export class Events implements SchedulerExtension {
  readonly name = "events";
  readonly #flags: Map<string, EventFlag> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
  }

  readonly rpcHandlers = {
    event_wait: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#wait(fields, comm),
    event_set: (fields: Message): Value => {
      const flag = this.#flag(nameOf(fields));
      flag.set = true;
      flag.waiters.wake();
      return null;
    },
    event_clear: (fields: Message): Value => {
      const name = nameOf(fields);
      const flag = this.#flags.get(name);
      if (flag === undefined) return null;
      flag.set = false;
      this.#forget(name, flag);
      return null;
    },
    event_is_set: (fields: Message): Value => this.#flags.get(nameOf(fields))?.set ?? false,
  };

  async #wait(fields: Message, comm: Comm): Promise<Value> {
    const name = nameOf(fields);
    const flag = this.#flag(name);
    if (flag.set) return true;
    try {
      const deadline = deadlineOf(this.#context, optionalNumber(fields, "timeout"));
      return (await flag.waiters.wait(comm, deadline)) === "woken";
    } finally {
      this.#forget(name, flag);
    }
  }

  #flag(name: string): EventFlag {
    let flag = this.#flags.get(name);
    if (flag === undefined) {
      flag = { set: false, waiters: new Waiters(this.#context) };
      this.#flags.set(name, flag);
    }
    return flag;
  }

  #forget(name: string, flag: EventFlag): void {
    if (!flag.set && flag.waiters.size === 0 && this.#flags.get(name) === flag) this.#flags.delete(name);
  }
}

function nameOf(fields: Message): string {
  return keyId(fields["name"]);
}
