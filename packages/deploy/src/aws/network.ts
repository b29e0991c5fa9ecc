/** Finds where a cluster could go: subnets without public addresses whose way out is a NAT gateway. */
import { DescribeRouteTablesCommand, DescribeSubnetsCommand, type EC2Client, type Subnet } from "@aws-sdk/client-ec2";
import { DeployError } from "../command.ts";

export interface Place {
  readonly vpc: string;
  /** One per zone at most, in the zones' order. */
  readonly subnets: readonly string[];
}

/**
 * @param vpc looks in this VPC only.
 * @throws {DeployError} where there is no such place, or more than one VPC has one.
 */
export async function findPlace(ec2: EC2Client, vpc: string | undefined): Promise<Place> {
  const Filters = vpc === undefined ? [] : [{ Name: "vpc-id", Values: [vpc] }];
  const tables = (await ec2.send(new DescribeRouteTablesCommand({ Filters }))).RouteTables ?? [];
  const subnets = (await ec2.send(new DescribeSubnetsCommand({ Filters }))).Subnets ?? [];
  const routed = subnets.filter((subnet) => {
    const own = tables.find((table) => table.Associations?.some(({ SubnetId }) => SubnetId === subnet.SubnetId));
    const main = tables.find(
      (one) => one.VpcId === subnet.VpcId && one.Associations?.some(({ Main }) => Main === true),
    );
    const routes = (own ?? main)?.Routes ?? [];
    return routes.some((one) => one.DestinationCidrBlock === "0.0.0.0/0" && one.NatGatewayId?.startsWith("nat-"));
  });
  const byVpc = groupBy(routed, ({ VpcId }) => VpcId ?? "");
  const [first, ...others] = byVpc;
  if (first === undefined) {
    throw new DeployError(
      `no private subnet with a NAT gateway was found${vpc === undefined ? "" : ` in ${vpc}`}: ` +
        "name --vpc and --subnets, or let `deploy aws workshop up` make a VPC",
    );
  }
  if (others.length > 0) {
    throw new DeployError(`several VPCs have private subnets: name one of ${[...byVpc.keys()].join(", ")} with --vpc`);
  }
  return { vpc: first[0], subnets: onePerZone(first[1]) };
}

function onePerZone(subnets: readonly Subnet[]): string[] {
  const byZone = groupBy(subnets, ({ AvailabilityZone }) => AvailabilityZone ?? "");
  return [...byZone].sort(([a], [b]) => a.localeCompare(b)).map(([, [subnet]]) => subnet?.SubnetId ?? "");
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
