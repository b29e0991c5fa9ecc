"""dask_cloudprovider's FargateCluster and ECSCluster, unmodified: they start, scale and stop our image's commands."""

from __future__ import annotations

import time

import pytest
from dask_cloudprovider.aws import ECSCluster, FargateCluster
from distributed import Client

from cloud import IMAGE, wait_until


def inc(x):
    return x + 1


def slow_inc(x):
    time.sleep(0.5)
    return x + 1


def tasks(cloud, cluster, status="RUNNING"):
    return cloud.client("ecs").list_tasks(cluster=cluster, desiredStatus=status)["taskArns"]


@pytest.fixture(scope="module")
def vpc(cloud):
    """The default one, which the library takes where none is named."""
    found = cloud.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    return found["Vpcs"][0]["VpcId"]


def test_fargate_cluster_from_up_to_close(cloud, vpc):
    with FargateCluster(n_workers=4, image=IMAGE, worker_cpu=1024, worker_mem=2048, skip_cleanup=True) as cluster:
        name = cluster.cluster_name
        with Client(cluster, timeout=60) as client:
            client.wait_for_workers(4, timeout=60)
            # SpecCluster finds its workers by their names, which are integers.
            assert sorted(one["name"] for one in client.scheduler_info()["workers"].values()) == [0, 1, 2, 3]
            assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
            assert cluster.dashboard_link.endswith(":8787/status")
            assert "FargateCluster" in repr(cluster)
            # What runs is not cleaned up, unless that is asked for.
            assert f"Left: {name}" in cloud.command("aws", "clean-up", "--dry-run").stdout
            assert f"Would delete cluster {name}" in cloud.command("aws", "clean-up", "--dry-run", "--running").stdout
            cluster.scale(2)
            wait_until(lambda: len(tasks(cloud, name)) == 3, "a scheduler and two workers")
            assert client.gather(client.map(inc, range(100, 200))) == list(range(101, 201))
            cluster.adapt(minimum=1, maximum=3, interval="200ms", wait_count=2, target_duration="1s")
            futures = client.map(slow_inc, range(30), pure=False)
            wait_until(lambda: len(tasks(cloud, name)) == 4, "three workers")
            assert client.gather(futures) == list(range(1, 31))
            del futures
            wait_until(lambda: len(tasks(cloud, name)) == 2, "one worker")
    wait_until(lambda: not tasks(cloud, name), "all tasks stopped")
    ecs = cloud.client("ecs")
    stopped = ecs.describe_tasks(cluster=name, tasks=tasks(cloud, name, "STOPPED"))["tasks"]
    wait_until(
        lambda: all(
            one["lastStatus"] == "STOPPED"
            for one in ecs.describe_tasks(cluster=name, tasks=[task["taskArn"] for task in stopped])["tasks"]
        ),
        "the end of all tasks",
    )
    codes = [
        one["containers"][0]["exitCode"]
        for one in ecs.describe_tasks(cluster=name, tasks=[task["taskArn"] for task in stopped])["tasks"]
    ]
    assert set(codes) <= {0, 143}, codes
    check_clean_up(cloud, name)


def check_clean_up(cloud, name):
    """What the library leaves after close(), and the command that ends it."""
    dry = cloud.command("aws", "clean-up", "--dry-run").stdout
    assert f"Would delete cluster {name}" in dry
    for kind, count in [("role", 2), ("security group", 1), ("task definition", 2)]:
        assert dry.count(f"Would delete {kind}") == count, dry
    done = cloud.command("aws", "clean-up").stdout
    assert dry.replace("Would delete", "Deleted") == done
    assert "Nothing else was left behind." in cloud.command("aws", "clean-up").stdout
    assert not [one for one in cloud.client("iam").list_roles()["Roles"] if one["RoleName"].startswith("dask-")]


def test_ecs_cluster_in_a_cluster_that_exists(cloud, place, vpc):
    """Every resource given, as the templates' outputs name them: the library makes, and leaves, only definitions."""
    ecs, ec2, iam, logs = (cloud.client(name) for name in ("ecs", "ec2", "iam", "logs"))
    vpc_id, subnets = place
    arn = ecs.create_cluster(clusterName="existing", capacityProviders=["FARGATE"])["cluster"]["clusterArn"]
    group = ec2.create_security_group(GroupName="existing", Description="existing", VpcId=vpc_id)["GroupId"]
    role = iam.create_role(RoleName="existing", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    logs.create_log_group(logGroupName="existing")
    with ECSCluster(
        cluster_arn=arn,
        fargate_scheduler=True,
        fargate_workers=True,
        fargate_use_private_ip=True,
        execution_role_arn=role,
        task_role_arn=role,
        cloudwatch_logs_group="existing",
        vpc=vpc_id,
        subnets=subnets,
        security_groups=[group],
        image=IMAGE,
        n_workers=2,
        worker_cpu=1024,
        worker_mem=2048,
        environment={"DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False", "FROM_THE_USER": "yes"},
        scheduler_extra_args=["--port", "8786"],
        worker_extra_args=["--resources", "slots=2"],
        skip_cleanup=True,
    ) as cluster:
        with Client(cluster, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            assert client.gather(client.map(inc, range(10), resources={"slots": 1})) == list(range(1, 11))
            assert client.submit(variable, "FROM_THE_USER").result() == "yes"
        streams = logs.describe_log_streams(logGroupName="existing")["logStreams"]
        # <prefix>/<container>/<task>, where the library looks for them.
        names = sorted(one["logStreamName"].split("/")[-2] for one in streams)
        assert names == ["dask-scheduler", "dask-worker", "dask-worker"]
    wait_until(lambda: not tasks(cloud, "existing"), "all tasks stopped")
    assert "Deleted task definition" in cloud.command("aws", "clean-up").stdout


def variable(name):
    import os

    return os.environ.get(name)
