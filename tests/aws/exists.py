"""Whether what a stack says it made is there, asked of the service itself, type by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError


def ecs_service(cloud: Any, name: str) -> bool:
    cluster, service = name.split("/")[-2:]
    [found] = cloud.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
    return found["status"] == "ACTIVE"


def ecs_cluster(cloud: Any, name: str) -> bool:
    return any(one["status"] == "ACTIVE" for one in cloud.client("ecs").describe_clusters(clusters=[name])["clusters"])


def task_definition(cloud: Any, name: str) -> bool:
    found = cloud.client("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"]
    return found["status"] == "ACTIVE"


def log_group(cloud: Any, name: str) -> bool:
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(one["logGroupName"] == name and one["retentionInDays"] == 30 for one in groups)


def capacity_provider(cloud: Any, name: str) -> bool:
    return bool(cloud.client("ecs").describe_capacity_providers(capacityProviders=[name])["capacityProviders"])


def auto_scaling_group(cloud: Any, name: str) -> bool:
    groups = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    return bool(groups["AutoScalingGroups"])


def access_point(cloud: Any, name: str) -> bool:
    return bool(cloud.client("efs").describe_access_points(AccessPointId=name)["AccessPoints"])


def mount_target(cloud: Any, name: str) -> bool:
    return bool(cloud.client("efs").describe_mount_targets(MountTargetId=name)["MountTargets"])


def file_system(cloud: Any, name: str) -> bool:
    [found] = cloud.client("efs").describe_file_systems(FileSystemId=name)["FileSystems"]
    return found["Encrypted"]


def repository(cloud: Any, name: str) -> bool:
    return bool(cloud.client("ecr").describe_repositories(repositoryNames=[name])["repositories"])


def ec2(operation: str, argument: str, answer: str) -> Callable[[Any, str], bool]:
    return lambda cloud, name: bool(getattr(cloud.client("ec2"), operation)(**{argument: [name]})[answer])


def address(cloud: Any, name: str) -> bool:
    return bool(cloud.client("ec2").describe_addresses(PublicIps=[name])["Addresses"])


CHECKS: dict[str, Callable[[Any, str], bool]] = {
    "AWS::AutoScaling::AutoScalingGroup": auto_scaling_group,
    "AWS::EC2::EIP": address,
    "AWS::EC2::InternetGateway": ec2("describe_internet_gateways", "InternetGatewayIds", "InternetGateways"),
    "AWS::EC2::LaunchTemplate": ec2("describe_launch_templates", "LaunchTemplateIds", "LaunchTemplates"),
    "AWS::EC2::NatGateway": ec2("describe_nat_gateways", "NatGatewayIds", "NatGateways"),
    "AWS::EC2::RouteTable": ec2("describe_route_tables", "RouteTableIds", "RouteTables"),
    "AWS::EC2::SecurityGroup": ec2("describe_security_groups", "GroupIds", "SecurityGroups"),
    "AWS::EC2::Subnet": ec2("describe_subnets", "SubnetIds", "Subnets"),
    "AWS::EC2::VPC": ec2("describe_vpcs", "VpcIds", "Vpcs"),
    "AWS::EC2::VPCEndpoint": ec2("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints"),
    "AWS::ECR::Repository": repository,
    "AWS::ECS::CapacityProvider": capacity_provider,
    "AWS::ECS::Cluster": ecs_cluster,
    "AWS::ECS::Service": ecs_service,
    "AWS::ECS::TaskDefinition": task_definition,
    "AWS::EFS::AccessPoint": access_point,
    "AWS::EFS::FileSystem": file_system,
    "AWS::EFS::MountTarget": mount_target,
    "AWS::IAM::InstanceProfile": lambda cloud, name: bool(
        cloud.client("iam").get_instance_profile(InstanceProfileName=name)
    ),
    "AWS::IAM::Role": lambda cloud, name: bool(cloud.client("iam").get_role(RoleName=name)),
    "AWS::Logs::LogGroup": log_group,
    "AWS::SageMaker::NotebookInstance": lambda cloud, name: bool(
        cloud.client("sagemaker").describe_notebook_instance(NotebookInstanceName=name.split("/")[-1])
    ),
    "AWS::SageMaker::NotebookInstanceLifecycleConfig": lambda cloud, name: bool(
        cloud.client("sagemaker").describe_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=name.split("/")[-1]
        )
    ),
    "AWS::ServiceDiscovery::PrivateDnsNamespace": lambda cloud, name: bool(
        cloud.client("servicediscovery").get_namespace(Id=name)
    ),
    "AWS::ServiceDiscovery::Service": lambda cloud, name: bool(cloud.client("servicediscovery").get_service(Id=name)),
}
# Rules, routes and links, which have no life, or no name, of their own.
PARTS = {
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECS::ClusterCapacityProviderAssociations",
}


def exists(cloud: Any, kind: str, name: str) -> bool:
    try:
        return CHECKS[kind](cloud, name)
    except ClientError as error:
        # Not found, under the name that each service has for it; anything else is a fault of the check.
        code = error.response["Error"]["Code"]
        assert any(
            word in code + str(error)
            for word in ("NotFound", "NoSuch", "not found", "does not exist", "Unable to describe")
        ), error
        return False


def resources_of(cloud: Any, stack: str) -> list[tuple[str, str, str]]:
    found = cloud.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    # Moto also lists, without a name, what a condition leaves out.
    made = [one for one in found if "LogicalResourceId" in one]
    return [(one["LogicalResourceId"], one["ResourceType"], one.get("PhysicalResourceId", "")) for one in made]


def assert_all(cloud: Any, resources: list[tuple[str, str, str]], there: bool) -> None:
    wrong = [one for one in resources if one[1] not in PARTS and exists(cloud, one[1], one[2]) is not there]
    assert not wrong, f"{'missing' if there else 'left'}: {wrong}"
