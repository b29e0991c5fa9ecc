"""The templates as they are written: lint, and the rules that only show at run time where they are broken."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import templates

SERVICES = {"SchedulerService", "WorkerService", "ControllerService", "NotebookService"}
pytestmark = pytest.mark.parametrize("name", templates.NAMES)


def containers(name):
    definitions = templates.resources(name, "AWS::ECS::TaskDefinition")
    return {one["Name"]: one for definition in definitions.values() for one in definition["ContainerDefinitions"]}


def test_cfn_lint_has_nothing_to_say(name):
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([lint, templates.FOLDER / f"{name}.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_fits_into_a_request(name):
    assert (templates.FOLDER / f"{name}.yaml").stat().st_size < 51_200


def test_names_no_region_account_or_name_of_its_own(name):
    text = "\n".join(templates.texts(templates.load(name)))
    assert not re.search(r"\b\d{12}\b", text), "an account"
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d\b", text), "a region"
    fixed = {"RoleName", "GroupName", "ClusterName", "Family", "LogGroupName", "RepositoryName", "CapacityProviderName"}
    for logical, resource in templates.load(name)["Resources"].items():
        for key, value in resource.get("Properties", {}).items():
            # A second stack must not fail on a name: the stack's is in it, or CloudFormation makes it.
            assert key not in fixed or "${AWS::StackName}" in str(value), f"{logical}.{key}"


def test_there_is_never_a_second_scheduler(name):
    scheduler = templates.resources(name, "AWS::ECS::Service")["SchedulerService"]
    limits = scheduler["DeploymentConfiguration"]
    assert (limits["MaximumPercent"], limits["MinimumHealthyPercent"]) == (100, 0)
    assert scheduler["DesiredCount"] == 1
    assert "SPOT" not in str(scheduler["CapacityProviderStrategy"]).upper()


def test_services_can_be_entered_and_roll_back(name):
    services = templates.resources(name, "AWS::ECS::Service")
    assert set(services) <= SERVICES
    for logical, service in services.items():
        assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
        assert service.get("EnableExecuteCommand", False) is (logical != "ControllerService")


def test_containers_are_watched_stopped_gently_and_logged(name):
    for container, one in containers(name).items():
        assert one["LogConfiguration"]["LogDriver"] == "awslogs"
        assert one["LogConfiguration"]["Options"]["awslogs-stream-prefix"] == "ecs"
        assert one["LinuxParameters"] == {"InitProcessEnabled": True}
        # Each argument is one argument: '--memory-limit 1800MB' as a whole would be refused at run time.
        assert not [part for part in one["Command"] if isinstance(part, str) and " " in part]
        if container != "dask-controller":
            assert one["HealthCheck"]["Command"][0] == "CMD"
            assert one["Ulimits"] == [{"Name": "nofile", "SoftLimit": 65535, "HardLimit": 65535}]
    worker = containers(name)["dask-worker"]
    assert worker["StopTimeout"] == 120
    grace = worker["Command"][worker["Command"].index("--termination-grace") + 1]
    assert int(grace.removesuffix("s")) < worker["StopTimeout"]


def test_logs_are_kept_for_a_time_and_go_with_the_stack(name):
    for logical, resource in templates.load(name)["Resources"].items():
        if resource["Type"] == "AWS::Logs::LogGroup":
            assert resource["Properties"]["RetentionInDays"] == {"Ref": "LogRetention"}, logical
            assert resource["DeletionPolicy"] == "Delete", logical


def test_nothing_is_open_to_the_world(name):
    rules = list(templates.resources(name, "AWS::EC2::SecurityGroupIngress").values())
    for group in templates.resources(name, "AWS::EC2::SecurityGroup").values():
        rules += group.get("SecurityGroupIngress", [])
    assert rules
    for rule in rules:
        assert "CidrIp" not in rule or rule["CidrIp"] == {"Ref": "AllowedIpRange"}
    assert templates.load(name)["Parameters"].get("AllowedIpRange", {"Default": ""})["Default"] == ""
    # Workers among themselves, and to the scheduler; no port 22 anywhere.
    assert not [rule for rule in rules if rule["FromPort"] == 22]
    for service in templates.resources(name, "AWS::ECS::Service").values():
        assigned = service["NetworkConfiguration"]["AwsvpcConfiguration"].get("AssignPublicIp", "DISABLED")
        assert assigned in ("DISABLED", {"Fn::If": ["OpenDashboard", "ENABLED", "DISABLED"]})


def test_roles_are_apart_and_small(name):
    definitions = templates.resources(name, "AWS::ECS::TaskDefinition")
    for logical, one in definitions.items():
        assert one["ExecutionRoleArn"] == {"Fn::GetAtt": ["ExecutionRole", "Arn"]}
        role = "ControllerRole" if logical == "ControllerTask" else "TaskRole"
        assert one["TaskRoleArn"] == {"Fn::GetAtt": [role, "Arn"]}
    # These actions know no resource; everything else names what it is about.
    without_resource = {"ecr:GetAuthorizationToken"} | {
        f"ssmmessages:{verb}{kind}Channel" for verb in ("Create", "Open") for kind in ("Control", "Data")
    }
    for logical, role in templates.resources(name, "AWS::IAM::Role").items():
        policies = [one["Fn::If"][1] if "Fn::If" in one else one for one in role.get("Policies", [])]
        for statement in [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action], logical
            assert statement["Resource"] != "*" or set(actions) <= without_resource, logical


def test_the_cluster_is_the_same_in_every_template(name):
    """What runs differs where it runs, and in nothing else."""
    ours, reference = containers(name), containers("fargate-private")
    for container in reference:
        for key in set(ours[container]) | set(reference[container]):
            if key not in ("Image", "MountPoints"):
                assert ours[container].get(key) == reference[container].get(key), f"{container}.{key}"
    for role in ("TaskRole", "ControllerRole"):
        trust = [templates.resources(one, "AWS::IAM::Role")[role] for one in (name, "fargate-private")]
        assert trust[0]["AssumeRolePolicyDocument"] == trust[1]["AssumeRolePolicyDocument"]


def test_tls_is_one_parameter(name):
    for one in containers(name).values():
        secrets = one["Secrets"]["Fn::If"]
        assert secrets[0] == "UseTls"
        assert [secret["Name"] for secret in secrets[1]] == ["DASK_TS_TLS_CA", "DASK_TS_TLS_CERT", "DASK_TS_TLS_KEY"]
        # A scheme would win over the configuration that the entrypoint makes of them.
        assert "tcp://" not in str(one["Command"]) + str(one["Environment"])


def test_scripts_on_machines_are_scripts(name):
    """What runs only on AWS: at least as far as a shell reads it."""
    for kind in ("AWS::EC2::LaunchTemplate", "AWS::SageMaker::NotebookInstanceLifecycleConfig"):
        for one in templates.resources(name, kind).values():
            for script in [text for text in templates.texts(one) if text.startswith("#!/bin/bash")]:
                # As CloudFormation leaves it: variables of the template filled in, literal ones with their mark gone.
                filled = re.sub(r"\$\{!", "${", re.sub(r"\$\{[A-Z][\w:]*\}", "filled-in", script))
                for text in [filled, *re.findall(r"<<'SCRIPT'\n(.*?)\nSCRIPT\n", filled, re.DOTALL)]:
                    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
                    assert done.returncode == 0, done.stderr
