"""AWS on this machine as tests see it: clients for it, what its runner of tasks knows, and a new user's commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "deploy" / "cloudformation"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
IMAGE = "dask-ts:test"


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Cloud:
    """The account: clients for it, and what the runner knows."""

    def __init__(self, url: str, folder: Path):
        self.url = url
        self.folder = folder

    def client(self, service: str):
        return boto3.client(service, endpoint_url=self.url)

    def command(self, *args: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """`dask-ts deploy …` as a user types it."""
        done = subprocess.run(
            [ROOT / "bin" / "dask-ts", "deploy", *args], capture_output=True, text=True, timeout=240, **options
        )
        assert not check or done.returncode == 0, f"{args}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def logs(self) -> str:
        files = sorted((self.folder / "tasks").glob("*/*.log"), key=lambda file: file.stat().st_mtime)
        return "\n".join(f"--- {file.parent.name} {file.name}\n{file.read_text()[-3000:]}" for file in files[-6:])

    def kill(self, task: str) -> None:
        """Ends a task's processes without a word."""
        for pid in json.loads((self.folder / "tasks" / task / "task.json").read_text())["pids"].values():
            os.killpg(pid, signal.SIGKILL)

    def address(self, cluster: str, service: str) -> str:
        """The private address of the service's one task."""
        ecs = self.client("ecs")
        arns = ecs.list_tasks(cluster=cluster, serviceName=service, desiredStatus="RUNNING")["taskArns"]
        [task] = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
        return next(one["value"] for one in task["attachments"][0]["details"] if one["name"] == "privateIPv4Address")

    def network_of(self, nat: bool = True) -> tuple[str, list[str]]:
        """What a company has before Dask comes: a VPC with two private subnets behind a NAT gateway."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        public, *private = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for number, zone in enumerate("aab")
        ]
        address = ec2.allocate_address(Domain="vpc")["AllocationId"]
        gateway = ec2.create_nat_gateway(SubnetId=public, AllocationId=address)["NatGateway"]["NatGatewayId"]
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=gateway)
        for subnet in private:
            ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        return vpc, private
