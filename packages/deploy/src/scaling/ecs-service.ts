/** The number of workers as the desired count of an ECS service. */
import { DescribeServicesCommand, type ECSClient, UpdateServiceCommand } from "@aws-sdk/client-ecs";
import { DeployError } from "../command.ts";
import type { WorkerService } from "./controller.ts";

export class EcsService implements WorkerService {
  readonly #ecs: ECSClient;
  readonly #cluster: string;
  readonly #service: string;

  constructor(ecs: ECSClient, cluster: string, service: string) {
    this.#ecs = ecs;
    this.#cluster = cluster;
    this.#service = service;
  }

  async desired(): Promise<number> {
    const request = new DescribeServicesCommand({ cluster: this.#cluster, services: [this.#service] });
    const [service] = (await this.#ecs.send(request)).services ?? [];
    if (service?.status !== "ACTIVE" || service.desiredCount === undefined) {
      throw new DeployError(`there is no service ${this.#service} in the cluster ${this.#cluster}`);
    }
    return service.desiredCount;
  }

  async setDesired(count: number): Promise<void> {
    await this.#ecs.send(
      new UpdateServiceCommand({ cluster: this.#cluster, service: this.#service, desiredCount: count }),
    );
  }
}
