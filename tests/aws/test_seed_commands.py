"""Commands of systems that people have built, to the letter, in services with a name in Cloud Map; workers first."""

from __future__ import annotations

import pytest
from distributed import Client

from cloud import IMAGE, wait_until

ADDRESS = "dask-scheduler.local-dask:8786"
SCHEDULER = ["dask-scheduler", "--dashboard", "--dashboard-address", "8787"]
WORKERS = {
    # ECS-Dask on Fargate.
    "fargate": f"dask-worker {ADDRESS} --memory-limit 1800MB --worker-port 9000 --nanny-port 9001".split(),
    # The climate workshop.
    "workshop": (
        f"dask-worker {ADDRESS} --memory-limit 7000MB --worker-port 9000 --no-nanny --no-dashboard --death-timeout 30 "
        "--nthreads 2 --nprocs 1"
    ).split(),
    # ECS on EC2: no address by hand, in quotes as task definitions and compose files have had it.
    "variable": ["dask-worker"],
}


@pytest.fixture(scope="module")
def service(cloud, place):
    """Starts a service of one task with a command, in a VPC with the namespace `local-dask`."""
    ecs, ec2, names = (cloud.client(name) for name in ("ecs", "ec2", "servicediscovery"))
    vpc, subnets = place
    group = ec2.create_security_group(GroupName="seeds", Description="seeds", VpcId=vpc)["GroupId"]
    names.create_private_dns_namespace(Name="local-dask", Vpc=vpc)
    [namespace] = [one for one in names.list_namespaces()["Namespaces"] if one["Name"] == "local-dask"]
    records = {"DnsRecords": [{"Type": "A", "TTL": 60}]}
    discovery = names.create_service(Name="Dask-Scheduler", NamespaceId=namespace["Id"], DnsConfig=records)["Service"]
    ecs.create_cluster(clusterName="seeds", capacityProviders=["FARGATE"])
    started = []

    def start(name, command, **environment):
        container = {"name": name, "image": IMAGE, "memory": 2048, "command": command}
        container["environment"] = [{"name": key, "value": value} for key, value in environment.items()]
        definition = ecs.register_task_definition(
            family=f"seeds-{name}",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="1024",
            memory="2048",
            containerDefinitions=[container],
        )["taskDefinition"]["taskDefinitionArn"]
        ecs.create_service(
            cluster="seeds",
            serviceName=name,
            taskDefinition=definition,
            desiredCount=1,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": subnets, "securityGroups": [group]}},
            serviceRegistries=[{"registryArn": discovery["Arn"]}] if name == "scheduler" else [],
        )
        started.append(name)

    yield start
    for name in started:
        ecs.delete_service(cluster="seeds", service=name, force=True)
    wait_until(lambda: ecs.describe_clusters(clusters=["seeds"])["clusters"][0]["runningTasksCount"] == 0, "the end")
    names.delete_service(Id=discovery["Id"])
    names.delete_namespace(Id=namespace["Id"])


def test_commands_of_the_seeds(cloud, service):
    for name, command in WORKERS.items():
        variables = {"DASK_SCHEDULER_ADDRESS": f'"tcp://{ADDRESS}"'} if name == "variable" else {}
        service(name, command, **variables)
    ecs = cloud.client("ecs")
    wait_until(lambda: ecs.describe_clusters(clusters=["seeds"])["clusters"][0]["runningTasksCount"] == 3, "workers")
    service("scheduler", SCHEDULER)
    wait_until(lambda: ecs.describe_clusters(clusters=["seeds"])["clusters"][0]["runningTasksCount"] == 4, "all")
    with Client(f"tcp://{cloud.address('seeds', 'scheduler')}:8786", timeout=60) as client:
        client.wait_for_workers(3, timeout=60)
        workers = client.scheduler_info()["workers"].values()
        assert {one["memory_limit"] for one in workers} >= {1_800_000_000, 7_000_000_000}
        assert sum(one["host"].startswith("10.") for one in workers) == 3
        assert client.submit(sum, [1, 2], workers=list(client.scheduler_info()["workers"])).result() == 3
        assert client.dashboard_link.endswith(":8787/status")
