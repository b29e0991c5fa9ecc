/**
 * Policies of the active memory manager that are Python classes. They run in the plugin host (dask_ts.amm_view), over
 * many turns of this process's event loop; here is what is needed to bring them back when that process dies.
 */
import { type Message, RemoteError, type Value } from "@dask-ts/protocol";

/** A policy in whose run the process died this often is not brought back. */
const MAX_DEATHS = 3;

/** An entry of the configuration. */
export interface ConfiguredPolicy {
  /** `module.Class` */
  readonly class: string;
  /** Its keyword arguments, in JSON. */
  readonly kwargs: string;
}

/** Answers what a policy asks of the active memory manager, by op; throws what its caller gets. */
export type PolicyRequests = (op: string, fields: Message) => Message;

export interface PythonPoliciesOptions {
  /** Any op of the plugin host. */
  readonly call: (op: string, fields: Message) => Promise<Message>;
}

interface StoredPolicy {
  /** What the plugin host calls it in its mark and in log lines. */
  readonly label: string;
  /** The fields of `amm-add`; null where it is gone with the process. */
  readonly source: Message | null;
  /** The plugin host has it. */
  live: boolean;
  deaths: number;
}

export class PythonPolicies {
  readonly #call: PythonPoliciesOptions["call"];
  readonly #stored: Map<string, StoredPolicy> = new Map();
  #requests: PolicyRequests = (op) => {
    throw new Error(`there is no active memory manager that answers ${op}`);
  };

  constructor({ call }: PythonPoliciesOptions) {
    this.#call = call;
  }

  /** Whether the plugin host has any. */
  get any(): boolean {
    for (const { live } of this.#stored.values()) if (live) return true;
    return false;
  }

  serve(requests: PolicyRequests): void {
    this.#requests = requests;
  }

  /** Makes a policy from the configuration. @throws {RemoteError} with what Python says against it. */
  async configure(id: string, policy: ConfiguredPolicy): Promise<void> {
    const label = `active memory manager policy '${policy.class}'`;
    const source = { policy_id: id, label, class: policy.class, kwargs: policy.kwargs };
    await this.#call("amm-add", source);
    this.#stored.set(id, { label, source, live: true, deaths: 0 });
  }

  /**
   * Lets the policies suggest and enact what they have suggested.
   *
   * @param run by which they name the run in their requests.
   * @returns what the first that failed has raised. Where the process dies, its log line says so.
   */
  async run(run: number): Promise<RemoteError | undefined> {
    let reply: Message;
    try {
      reply = await this.#call("amm-run", { run });
    } catch {
      return undefined;
    }
    const { failed } = reply;
    return failed instanceof Map ? new RemoteError(Object.fromEntries(failed) as Message) : undefined;
  }

  /** A request of the plugin host whose op begins with `amm-`. */
  answer(op: string, fields: Message): Message {
    if (op === "amm-added") {
      const { policy_id: id = null, label = null, policy = null } = fields;
      const source = policy === null ? null : { policy_id: id, label, policy };
      this.#stored.set(String(id), { label: String(label), source, live: true, deaths: 0 });
      return {};
    }
    if (op === "amm-removed") {
      this.#stored.delete(String(fields["policy_id"]));
      return {};
    }
    return this.#requests(op, fields);
  }

  /** The process died, in a policy's run where `label` is one. @returns true where that one is now left out. */
  died(label: string | undefined): boolean {
    let leftOut = false;
    for (const [id, policy] of this.#stored) {
      policy.live = false;
      if (policy.label === label && ++policy.deaths === MAX_DEATHS) leftOut = true;
      if (policy.source === null) this.#stored.delete(id);
    }
    return leftOut;
  }

  /** A new process. @param ask sends a request; resolves to whether it was done. */
  restore(ask: (what: string, op: string, fields: Message) => Promise<boolean>): void {
    for (const policy of this.#stored.values()) {
      if (policy.source === null || policy.deaths >= MAX_DEATHS) continue;
      void ask(policy.label, "amm-add", policy.source).then((done) => {
        policy.live = done;
      });
    }
  }
}

/** For replies: workers by their address. */
export function addressesOf(workers: Iterable<{ readonly address: string }>): Value[] {
  return Array.from(workers, ({ address }) => address);
}
