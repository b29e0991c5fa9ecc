/** A CloudFormation stack: what it is, and waiting for it with its events as progress. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CloudFormationClient,
  DescribeStackEventsCommand,
  DescribeStackResourcesCommand,
  DescribeStacksCommand,
  type Stack,
  type StackEvent,
  type StackResource,
} from "@aws-sdk/client-cloudformation";
import { DeployError, progress } from "../command.ts";

const POLL_MS = 3000;
const FIRST_POLL_MS = 200;

/** The stack, or undefined where there is none (a deleted one is none, unless asked for by its id). */
export async function findStack(stacks: CloudFormationClient, name: string): Promise<Stack | undefined> {
  try {
    const [stack] = (await stacks.send(new DescribeStacksCommand({ StackName: name }))).Stacks ?? [];
    return stack;
  } catch (error) {
    // CloudFormation has no error of its own for this.
    if (error instanceof Error && /does not exist/.test(error.message)) return undefined;
    throw error;
  }
}

/** @throws {DeployError} where there is none. */
export async function getStack(stacks: CloudFormationClient, name: string): Promise<Stack> {
  const stack = await findStack(stacks, name);
  if (stack === undefined) throw new DeployError(`there is no stack '${name}' in this region and account`);
  return stack;
}

export function outputsOf(stack: Stack): Map<string, string> {
  return new Map((stack.Outputs ?? []).map(({ OutputKey, OutputValue }) => [OutputKey ?? "", OutputValue ?? ""]));
}

export function parametersOf(stack: Stack): Map<string, string> {
  return new Map((stack.Parameters ?? []).map((one) => [one.ParameterKey ?? "", one.ParameterValue ?? ""]));
}

export async function resourcesOf(stacks: CloudFormationClient, name: string): Promise<StackResource[]> {
  return (await stacks.send(new DescribeStackResourcesCommand({ StackName: name }))).StackResources ?? [];
}

/**
 * Waits until nothing is IN_PROGRESS any more, each new event a line on stderr.
 *
 * @param id the stack's id: a deleted stack has no name.
 * @param since events before this time belong to earlier changes.
 * @returns the stack as it is then; one that is not to be found any more is deleted.
 * @throws {DeployError} where it ended in failure, with the reasons.
 */
export async function waitForStack(stacks: CloudFormationClient, id: string, since: Date): Promise<Stack> {
  const seen = new Set<string>();
  const reasons: string[] = [];
  for (let pause = FIRST_POLL_MS; ; pause = Math.min(POLL_MS, pause * 2)) {
    const stack = await findStack(stacks, id);
    if (stack === undefined) return { StackName: id, StackStatus: "DELETE_COMPLETE", CreationTime: since };
    for (const event of await newEvents(stacks, id, since, seen)) {
      const reason = event.ResourceStatusReason;
      const line = [event.ResourceStatus, event.LogicalResourceId, event.ResourceType].join("  ");
      progress(`  ${reason === undefined ? line : `${line}  ${reason}`}`);
      if (event.ResourceStatus?.endsWith("_FAILED"))
        reasons.push(`${event.LogicalResourceId}: ${reason ?? "no reason"}`);
    }
    const status = stack.StackStatus ?? "";
    if (!status.endsWith("_IN_PROGRESS")) {
      if (!/^(CREATE|UPDATE|DELETE)_COMPLETE$/.test(status)) {
        const why = reasons.length > 0 ? reasons.join("; ") : (stack.StackStatusReason ?? "no reason was given");
        throw new DeployError(`the stack ${stack.StackName} is ${status}: ${why}`);
      }
      return stack;
    }
    await sleep(pause);
  }
}

/** Oldest first. */
async function newEvents(
  stacks: CloudFormationClient,
  id: string,
  since: Date,
  seen: Set<string>,
): Promise<StackEvent[]> {
  const fresh: StackEvent[] = [];
  let token: string | undefined;
  do {
    const page = await stacks.send(new DescribeStackEventsCommand({ StackName: id, NextToken: token }));
    const events = page.StackEvents ?? [];
    for (const event of events) {
      const key = event.EventId ?? "";
      if (seen.has(key) || (event.Timestamp ?? since) < since) continue;
      seen.add(key);
      fresh.push(event);
    }
    // Newest come first: a page that ends before the change is the last that matters.
    token = (events.at(-1)?.Timestamp ?? since) < since ? undefined : page.NextToken;
  } while (token !== undefined);
  return fresh.reverse();
}
