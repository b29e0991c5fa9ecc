"""`dask-ts deploy aws …` as a new user types it: clusters that compute, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from distributed import Client

import templates
from cloud import IMAGE, ROOT, wait_until
from exists import assert_all, resources_of


def inc(x):
    return x + 1


def slow_inc(x, seconds):
    time.sleep(seconds)
    return x + 1


def connect(cloud, cluster):
    return Client(f"tcp://{cloud.address(cluster, 'Dask-Scheduler')}:8786", timeout=30)


def outputs_of(cloud, stack):
    [found] = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}


def expected(template, without=()):
    conditions = set(without)
    return {
        logical
        for logical, one in templates.load(template)["Resources"].items()
        if one.get("Condition") not in conditions
    }


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A stand-in for Docker, which writes down what it is told."""
    script = tmp_path / "docker"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" != login ] || cat > {tmp_path}/password\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def push_tag(cloud, repository, tag):
    manifest = (
        '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", '
        f'"config": {{"digest": "sha256:{tag:0>64}"}}, "layers": []}}'
    )
    cloud.client("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)


def test_image_push_makes_the_repository_and_logs_in(cloud, engine):
    done = cloud.command("image", "push")
    calls = (engine / "calls").read_text().splitlines()
    registry = re.search(r"\S+\.amazonaws\.com", done.stdout)[0]
    assert calls[0].startswith(f"build --file {ROOT}/deploy/Dockerfile --tag dask-ts:0.1.0 --tag dask-ts:latest")
    assert calls[1].startswith("login --username AWS --password-stdin ")
    assert (engine / "password").read_text()
    assert [call.split()[0] for call in calls[2:]] == ["tag", "push"] * 2
    assert f"push {registry}/dask-ts:0.1.0" in calls
    # What the stand-in did not do.
    push_tag(cloud, "dask-ts", "0.1.0")
    assert "Deleted the repository 'dask-ts' and its 1 images." in cloud.command("image", "remove").stdout
    assert cloud.client("ecr").describe_repositories()["repositories"] == []


def test_without_an_image_or_a_place_it_says_what_to_do(cloud):
    done = cloud.command("aws", "workshop", "up", "--name", "none", check=False)
    assert done.returncode == 1
    assert "dask-ts deploy image push" in done.stderr
    done = cloud.command("aws", "fargate", "up", "--name", "none", "--image", IMAGE, "--vpc", "vpc-none", check=False)
    assert done.returncode == 1
    assert "no private subnet with a NAT gateway" in done.stderr
    done = cloud.command("aws", "ec2", "up", "--name", "ecs-dask", "--image", IMAGE, check=False)
    assert done.returncode == 1
    assert "cannot begin with 'ecs'" in done.stderr
    assert cloud.command("aws", "fargate", "status", "--name", "none", check=False).returncode == 1
    assert "nothing to do" in cloud.command("aws", "fargate", "down", "--name", "none").stdout


def test_three_commands_from_clone_to_client(cloud, engine):
    """A workshop: everything from nothing, up to a client that computes, and back to nothing."""
    before = cloud.client("ec2").describe_vpcs()["Vpcs"]
    cloud.command("image", "push")
    push_tag(cloud, "dask-ts", "0.1.0")
    up = cloud.command("aws", "workshop", "up", "--workers", "2", "--allowed-ip-range", "203.0.113.7/32")
    assert "CREATE_COMPLETE" in up.stderr
    assert 'distributed.Client("tcp://dask-scheduler.local-dask:8786")' in up.stdout
    outputs = outputs_of(cloud, "dask-workshop")
    cluster = outputs["ClusterName"]
    assert cluster == "dask-workshop-Fargate-Dask-Cluster"
    resources = resources_of(cloud, "dask-workshop")
    assert {logical for logical, _, _ in resources} == expected("workshop", {"UseController", "HasRepository"})
    assert_all(cloud, resources, there=True)
    with connect(cloud, cluster) as client:
        client.wait_for_workers(2, timeout=30)
        assert client.gather(client.map(inc, range(20))) == list(range(1, 21))
        assert {one["nthreads"] for one in client.scheduler_info()["workers"].values()} == {2}
        # Private addresses, and the ports that the security group lets through.
        assert {address.rpartition(":")[2] for address in client.scheduler_info()["workers"]} == {"9000"}
        check_names(cloud)
        check_replacements(cloud, cluster, client)
    scale = cloud.command("aws", "workshop", "scale", "0", "--scheduler", "0")
    assert "Dask-Scheduler 0/0  Dask-Worker 0/0" in scale.stderr
    cloud.command("aws", "workshop", "scale", "1", "--scheduler", "1")
    status = cloud.command("aws", "workshop", "status").stdout
    assert "Dask-Worker  1/1 running" in status
    assert "From outside http://" in status
    with connect(cloud, cluster) as client:
        client.wait_for_workers(1, timeout=30)
        assert client.submit(inc, 1).result() == 2
    assert "Registered to:" in cloud.command("aws", "workshop", "logs", "workers").stdout
    assert "Scheduler at:" in cloud.command("aws", "workshop", "logs").stdout
    assert cloud.command("aws", "workshop", "logs", "--since", "0s").stdout == ""
    check_follow()
    assert "aws ssm start-session --target ecs:" in cloud.command("aws", "workshop", "url").stdout
    done = cloud.command("aws", "workshop", "down", check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    down = cloud.command("aws", "workshop", "down", "--yes").stdout
    assert re.search(r"Deleted the stack dask-workshop with its \d+ resources", down)
    assert "Left: the images in" in down
    assert_all(cloud, resources, there=False)
    assert cloud.client("ec2").describe_vpcs()["Vpcs"] == before
    assert not [arn for arn in definitions(cloud) if "dask-workshop" in arn]
    cloud.command("image", "remove")


def check_follow():
    """`logs --follow` shows what is there, and goes on until it is interrupted."""
    command = [ROOT / "bin" / "dask-ts", "deploy", "aws", "workshop", "logs", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert any("Scheduler at:" in line for line in following.stdout)
        assert following.poll() is None
        following.terminate()


def definitions(cloud):
    ecs = cloud.client("ecs")
    return [
        arn
        for status in ("ACTIVE", "INACTIVE")
        for arn in ecs.list_task_definitions(status=status)["taskDefinitionArns"]
    ]


def check_names(cloud):
    """Cloud Map knows the scheduler, and the name's case does not matter."""
    names = cloud.client("servicediscovery")
    [service] = [one for one in names.list_services()["Services"] if one["Name"] == "Dask-Scheduler"]
    assert names.get_service(Id=service["Id"])["Service"]["DnsConfig"]["DnsRecords"] == [{"Type": "A", "TTL": 5}]
    [instance] = names.list_instances(ServiceId=service["Id"])["Instances"]
    assert instance["Attributes"]["AWS_INSTANCE_IPV4"].startswith("10.")


def check_replacements(cloud, cluster, client):
    """A worker that is killed comes back by its service; so does the scheduler, under its name, with the workers."""
    ecs = cloud.client("ecs")
    kill_one(cloud, ecs, cluster, "Dask-Worker")
    wait_until(lambda: running(ecs, cluster, "Dask-Worker") == 2, "a new worker")
    client.wait_for_workers(2, timeout=30)
    assert client.submit(sum, [1, 2]).result(timeout=30) == 3
    old = cloud.address(cluster, "Dask-Scheduler")
    kill_one(cloud, ecs, cluster, "Dask-Scheduler")
    client.close()
    wait_until(lambda: running(ecs, cluster, "Dask-Scheduler") == 1, "a new scheduler")
    assert cloud.address(cluster, "Dask-Scheduler") != old
    with connect(cloud, cluster) as again:
        again.wait_for_workers(2, timeout=90)
        assert again.submit(inc, 1).result(timeout=30) == 2


def running(ecs, cluster, service):
    [found] = ecs.describe_services(cluster=cluster, services=[service])["services"]
    return found["runningCount"] if found["pendingCount"] == 0 else -1


def kill_one(cloud, ecs, cluster, service):
    """As a machine does that fails: without a word."""
    arn = ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="RUNNING")["taskArns"][0]
    cloud.kill(arn.split("/")[-1])
    wait_until(
        lambda: ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"][0]["lastStatus"] == "STOPPED", "its end"
    )


def test_the_controller_scales_on_the_schedulers_wish(cloud, place):
    options = ["--name", "auto", "--image", IMAGE, "--workers", "0", "--autoscale", "--maximum", "3", "--spot"]
    options += ["--target-duration", "1s", "--parameter", "ScalingInterval=1s", "--bucket", "era5-pds"]
    cloud.command("aws", "fargate", "up", *options)
    resources = resources_of(cloud, "auto")
    assert {logical for logical, _, _ in resources} == expected("fargate-private", {"HasClientGroup"})
    assert_all(cloud, resources, there=True)
    cluster = outputs_of(cloud, "auto")["ClusterName"]
    ecs = cloud.client("ecs")
    with connect(cloud, cluster) as client:
        assert client.scheduler_info()["workers"] == {}
        futures = client.map(slow_inc, range(24), seconds=1, pure=False)
        wait_until(lambda: desired(ecs, cluster) == 3, "three workers wanted", 90)
        client.wait_for_workers(2, timeout=60)
        [task, *_] = ecs.describe_tasks(
            cluster=cluster,
            tasks=ecs.list_tasks(cluster=cluster, serviceName="Dask-Worker", desiredStatus="RUNNING")["taskArns"],
        )["tasks"]
        assert task["capacityProviderName"] == "FARGATE_SPOT"
        # Results stay while the workers that hold them go.
        assert client.gather(futures) == list(range(1, 25))
        wait_until(lambda: desired(ecs, cluster) < 3, "fewer workers", 120)
        assert client.gather(futures) == list(range(1, 25))
        del futures
        wait_until(lambda: desired(ecs, cluster) == 0, "no workers", 120)
    done = cloud.command("aws", "fargate", "scale", "2", "--name", "auto", check=False)
    assert done.returncode == 1
    assert "up --no-autoscale" in done.stderr
    log = cloud.command("aws", "fargate", "logs", "--name", "auto", "controller").stdout
    assert "Retiring" in log
    # Without it, the number is the user's again, and nothing of the controller is left.
    cloud.command("aws", "fargate", "up", "--name", "auto", "--no-autoscale")
    assert_all(cloud, [one for one in resources if one[0].startswith("Controller")], there=False)
    assert "Dask-Worker 1/1" in cloud.command("aws", "fargate", "scale", "1", "--name", "auto").stderr
    cloud.command("aws", "fargate", "down", "--name", "auto", "--yes")
    assert_all(cloud, resources, there=False)


def desired(ecs, cluster):
    [found] = ecs.describe_services(cluster=cluster, services=["Dask-Worker"])["services"]
    return found["desiredCount"]


def write_file(path, text):
    Path(path).write_text(text)
    return path


def read_file(path):
    return Path(path).read_text()


def test_ec2_shares_files_and_has_a_notebook(cloud, place):
    vpc, subnets = place
    options = ["--name", "shared", "--image", IMAGE, "--workers", "2", "--vpc", vpc, "--subnets", ",".join(subnets)]
    cloud.command("aws", "ec2", "up", *options, "--notebook-image", "dask-ts:notebook", "--spot")
    resources = resources_of(cloud, "shared")
    off = {"UseController", "HasClientGroup", "HasNotebookFromOutside"}
    assert {logical for logical, _, _ in resources} == expected("ec2-efs", off)
    assert_all(cloud, resources, there=True)
    outputs = outputs_of(cloud, "shared")
    assert "token=" in cloud.command("aws", "ec2", "logs", "notebook", "--name", "shared").stdout
    assert "/lab?token=" in cloud.command("aws", "ec2", "url", "--name", "shared").stdout
    with connect(cloud, outputs["ClusterName"]) as client:
        client.wait_for_workers(2, timeout=30)
        one, other = client.scheduler_info()["workers"]
        path = client.submit(write_file, "/shared/a.txt", "seen by all", workers=[one]).result()
        assert client.submit(read_file, path, workers=[other]).result() == "seen by all"
    # Changed in place: what is not given stays as it is.
    changed = cloud.command("aws", "ec2", "up", "--name", "shared", "--workers", "1")
    assert "Dask-Worker 1/1" in changed.stderr
    assert outputs_of(cloud, "shared") == outputs
    assert resources_of(cloud, "shared") == resources
    # Images in the stack's own repositories go with it.
    name = outputs["WorkerRepository"].split("/", 1)[1]
    push_tag(cloud, name, "1")
    done = cloud.command("aws", "ec2", "down", "--name", "shared", check=False, stdin=subprocess.DEVNULL)
    assert "ALL FILES" in done.stderr
    cloud.command("aws", "ec2", "down", "--name", "shared", "--yes")
    assert_all(cloud, resources, there=False)


@pytest.mark.parametrize("args", [["--help"], ["scheduler", "--version"], ["deploy", "aws", "fargate", "up", "--help"]])
def test_the_aws_sdk_is_loaded_by_what_needs_it_only(args):
    environment = {**os.environ, "NODE_OPTIONS": f"--require {Path(__file__).with_name('loaded.cjs')}"}
    done = subprocess.run([ROOT / "bin" / "dask-ts", *args], env=environment, capture_output=True, text=True)
    assert "aws-sdk modules: 0" in done.stderr
    args = ["deploy", "aws", "fargate", "status"]
    environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    done = subprocess.run([ROOT / "bin" / "dask-ts", *args], env=environment, capture_output=True, text=True)
    assert "aws-sdk modules: 0" not in done.stderr
