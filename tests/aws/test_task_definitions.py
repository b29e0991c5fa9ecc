"""The bare task definitions: what the generator writes, and what ECS takes and runs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from distributed import Client

from cloud import IMAGE, ROOT, wait_until

FOLDER = ROOT / "deploy" / "ecs"
FILES = sorted(FOLDER.glob("*.json"), key=lambda file: file.name)


def test_are_what_the_templates_say():
    done = subprocess.run(["node", FOLDER / "generate.mjs", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in FILES} == {
        *(f"fargate-{role}.json" for role in ("scheduler", "worker", "controller")),
        *(f"ec2-{role}.json" for role in ("scheduler", "worker", "controller", "notebook")),
    }


def test_a_changed_file_is_noticed(tmp_path):
    for name in ("deploy/ecs", "deploy/cloudformation", "packages/protocol/node_modules"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name) if "modules" in name else copy(ROOT / name, tmp_path / name)
    (tmp_path / "packages" / "protocol" / "package.json").write_text("{}")
    worker = tmp_path / "deploy" / "ecs" / "fargate-worker.json"
    worker.write_text(worker.read_text().replace('"0.9"', '"0.5"'))
    check = ["node", "deploy/ecs/generate.mjs", "--check"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "fargate-worker.json is not what" in done.stderr


def copy(source: Path, target: Path) -> None:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


@pytest.fixture(scope="module")
def cluster(cloud):
    ecs, logs = cloud.client("ecs"), cloud.client("logs")
    ecs.create_cluster(clusterName="bare")
    for name in ("scheduler", "workers", "controller", "notebook"):
        logs.create_log_group(logGroupName=f"/ecs/dask/dask-{name}")
    yield "bare"
    for arn in ecs.list_tasks(cluster="bare")["taskArns"]:
        ecs.stop_task(cluster="bare", task=arn)
    wait_until(lambda: ecs.describe_clusters(clusters=["bare"])["clusters"][0]["runningTasksCount"] == 0, "the end")


def filled(file: Path, **variables: str) -> dict:
    """What `envsubst` makes of it."""
    values = {
        "IMAGE": IMAGE,
        "NOTEBOOK_IMAGE": IMAGE,
        "AWS_REGION": "us-east-1",
        "CLUSTER": "bare",
        "EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution",
        "TASK_ROLE_ARN": "arn:aws:iam::123456789012:role/task",
        "CONTROLLER_ROLE_ARN": "arn:aws:iam::123456789012:role/controller",
        "FILE_SYSTEM_ID": "fs-12345678",
        "ACCESS_POINT_ID": "fsap-12345678",
        "SCHEDULER_ADDRESS": "dask-scheduler.local-dask:8786",
        **variables,
    }
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], file.read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_ecs_takes_it(cloud, file):
    """boto3 checks names and types of all that is in it."""
    made = cloud.client("ecs").register_task_definition(**filled(file))["taskDefinition"]
    assert made["status"] == "ACTIVE"
    assert made["networkMode"] == "awsvpc"


def test_a_cluster_of_them_computes(cloud, place, cluster):
    ecs, ec2 = cloud.client("ecs"), cloud.client("ec2")
    vpc, subnets = place
    group = ec2.create_security_group(GroupName="bare", Description="bare", VpcId=vpc)["GroupId"]

    def run(file: str, **variables: str) -> str:
        definition = ecs.register_task_definition(**filled(FOLDER / file, **variables))["taskDefinition"]
        [task] = ecs.run_task(
            cluster=cluster,
            taskDefinition=definition["taskDefinitionArn"],
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": subnets, "securityGroups": [group]}},
        )["tasks"]
        return next(one["value"] for one in task["attachments"][0]["details"] if one["name"] == "privateIPv4Address")

    address = f"{run('fargate-scheduler.json')}:8786"
    run("fargate-worker.json", SCHEDULER_ADDRESS=address)
    with Client(f"tcp://{address}", timeout=60) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, [1, 2]).result() == 3
