"""CloudFormation types that moto does not model, or models with few of their properties, on moto's back ends."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudformation.models import CloudFormationBackend
from moto.core.common_models import CloudFormationModel
from moto.ecs import models as ecs
from moto.efs import models as efs
from moto.servicediscovery.models import servicediscovery_backends

from local_aws import ec2_deletion

STOP_SECONDS = 150


def small_letters(value: Any) -> Any:
    """Property names of CloudFormation as the API spells them; names inside option maps start small anyway."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: small_letters(one) for key, one in value.items()}
    return [small_letters(one) for one in value] if isinstance(value, list) else value


def numbers(value: Any) -> Any:
    """CloudFormation turns texts into numbers where the API wants them, as parameters always are texts."""
    if isinstance(value, dict):
        wanted = {"cpu", "memory", "containerPort", "softLimit", "hardLimit", "stopTimeout", "interval", "timeout"}
        wanted |= {"retries", "startPeriod", "sizeInGiB", "desiredCount", "weight"}
        return {
            key: int(one) if key in wanted and isinstance(one, str) and one.isdigit() else numbers(one)
            for key, one in value.items()
        }
    return [numbers(one) for one in value] if isinstance(value, list) else value


class Resource(CloudFormationModel):
    """A resource of ours: a record with attributes, which knows how to delete what it stands for."""

    TYPE = ""
    ATTRIBUTES: tuple[str, ...] = ()

    def __init__(self, reference: str, attributes: dict[str, str] | None = None, properties: Any = None):
        self.reference = reference
        self.attributes = attributes or {}
        self.properties = properties

    @property
    def physical_resource_id(self) -> str:
        return self.reference

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.ATTRIBUTES

    def get_cfn_attribute(self, attribute_name: str) -> str:
        if attribute_name not in self.attributes:
            raise UnformattedGetAttTemplateException()
        return self.attributes[attribute_name]

    @classmethod
    def update_from_cloudformation_json(cls, original_resource, *_, **__):
        return original_resource

    def delete(self, account_id: str, region_name: str) -> None:
        pass


class PrivateDnsNamespace(Resource, CloudFormationModel):
    ATTRIBUTES = ("Id", "Arn", "HostedZoneId")

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ServiceDiscovery::PrivateDnsNamespace"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        properties = cloudformation_json["Properties"]
        backend = servicediscovery_backends[account_id][region_name]
        backend.create_private_dns_namespace(properties["Name"], resource_name, "", properties["Vpc"], [], {})
        namespace = next(one for one in backend.namespaces.values() if one.name == properties["Name"])
        return cls(namespace.id, {"Id": namespace.id, "Arn": namespace.arn}, properties)

    def delete(self, account_id, region_name):
        backend = servicediscovery_backends[account_id][region_name]
        assert not any(service.namespace_id == self.reference for service in backend.services.values())
        backend.delete_namespace(self.reference)


class DiscoveryService(Resource, CloudFormationModel):
    ATTRIBUTES = ("Id", "Arn", "Name")

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ServiceDiscovery::Service"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        properties = cloudformation_json["Properties"]
        service = servicediscovery_backends[account_id][region_name].create_service(
            properties["Name"],
            properties["NamespaceId"],
            resource_name,
            "",
            properties["DnsConfig"],
            {},
            properties.get("HealthCheckCustomConfig", {}),
            [],
            "DNS_HTTP",
        )
        return cls(service.id, {"Id": service.id, "Arn": service.arn, "Name": service.name}, properties)

    def delete(self, account_id, region_name):
        backend = servicediscovery_backends[account_id][region_name]
        # As AWS: a service whose tasks are still registered is not deleted; CloudFormation tries again.
        assert not backend.get_service(self.reference).instances, "instances are registered"
        backend.delete_service(self.reference)


class CapacityProvider(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ECS::CapacityProvider"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        properties = cloudformation_json["Properties"]
        group = properties["AutoScalingGroupProvider"]["AutoScalingGroupArn"]
        assert group in autoscaling_backends[account_id][region_name].autoscaling_groups
        backend = ecs.ecs_backends[account_id][region_name]
        provider = small_letters(properties["AutoScalingGroupProvider"])
        backend.create_capacity_provider(resource_name, provider, [])
        return cls(resource_name, {}, properties)

    def delete(self, account_id, region_name):
        ecs.ecs_backends[account_id][region_name].capacity_providers.pop(self.reference, None)


class CapacityProviderAssociations(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ECS::ClusterCapacityProviderAssociations"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        properties = cloudformation_json["Properties"]
        backend = ecs.ecs_backends[account_id][region_name]
        strategy = small_letters(properties["DefaultCapacityProviderStrategy"])
        backend.put_cluster_capacity_providers(properties["Cluster"], properties["CapacityProviders"], strategy)
        return cls(properties["Cluster"], {}, properties)


class WaitConditionHandle(Resource, CloudFormationModel):
    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudFormation::WaitConditionHandle"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        return cls(f"https://cloudformation-waitcondition.invalid/{resource_name}")


class WaitCondition(Resource, CloudFormationModel):
    """Always signalled: what signals it is a script on an instance that no one starts here."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudFormation::WaitCondition"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
        assert cloudformation_json["Properties"]["Handle"].startswith("https://")
        return cls(resource_name)


def create_cluster(cls, resource_name, cloudformation_json, account_id, region_name, **_):
    properties = cloudformation_json["Properties"]
    return ecs.ecs_backends[account_id][region_name].create_cluster(
        resource_name,
        cluster_settings=small_letters(properties.get("ClusterSettings")),
        capacity_providers=properties.get("CapacityProviders"),
    )


def delete_cluster(cls, resource_name, resource_json, account_id, region_name):
    backend = ecs.ecs_backends[account_id][region_name]
    cluster = backend.clusters[resource_name]
    left = [one for one in backend.services.values() if one.cluster_name == cluster.name and one.status == "ACTIVE"]
    running = [one for one in backend.tasks.get(cluster.name, {}).values() if one.last_status != "STOPPED"]
    assert not left and not running, "the cluster is in use"
    backend.clusters.pop(resource_name)


def create_task_definition(cls, resource_name, cloudformation_json, account_id, region_name, **_):
    properties = numbers(small_letters(cloudformation_json["Properties"]))
    names = ["networkMode", "requiresCompatibilities", "taskRoleArn", "executionRoleArn", "ephemeralStorage"]
    given = {name: properties[name] for name in names if name in properties}
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in given.items()}
    for container in properties["containerDefinitions"]:
        # A number that a parameter gives is a text where the API wants one.
        container["command"] = [str(one) for one in container["command"]]
    volumes = properties.get("volumes", [])
    for volume in volumes:
        volume["efsVolumeConfiguration"] = volume.pop("eFSVolumeConfiguration")
        volume["efsVolumeConfiguration"]["fileSystemId"] = volume["efsVolumeConfiguration"].pop("filesystemId")
    return ecs.ecs_backends[account_id][region_name].register_task_definition(
        properties["family"],
        properties["containerDefinitions"],
        volumes=volumes,
        cpu=str(properties["cpu"]),
        memory=str(properties["memory"]),
        **snake,
    )


def update_task_definition(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
    new = create_task_definition(cls, new_resource_name, cloudformation_json, account_id, region_name)
    ecs.ecs_backends[account_id][region_name].deregister_task_definition(original_resource.arn)
    return new


def delete_task_definition(cls, resource_name, resource_json, account_id, region_name):
    ecs.ecs_backends[account_id][region_name].deregister_task_definition(resource_name)


def create_service(cls, resource_name, cloudformation_json, account_id, region_name, **_):
    properties = numbers(small_letters(cloudformation_json["Properties"]))
    service = ecs.ecs_backends[account_id][region_name].create_service(
        properties["cluster"],
        properties["serviceName"],
        properties["desiredCount"],
        properties["taskDefinition"],
        service_registries=properties.get("serviceRegistries"),
        network_configuration=properties["networkConfiguration"],
    )
    keep_service_properties(service, properties)
    return service


def keep_service_properties(service, properties):
    # moto has no place for these; the runner reads them.
    service.capacity_provider_strategy = properties["capacityProviderStrategy"]
    service.deployment_configuration = properties["deploymentConfiguration"]
    service.enable_execute_command = properties.get("enableExecuteCommand", False)


def update_service(cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name):
    properties = numbers(small_letters(cloudformation_json["Properties"]))
    service = ecs.ecs_backends[account_id][region_name].update_service(
        {
            "cluster": properties["cluster"],
            "service": original_resource.name,
            "task_definition": properties["taskDefinition"],
            "desired_count": properties["desiredCount"],
        }
    )
    keep_service_properties(service, properties)
    return service


def delete_service(cls, resource_name, resource_json, account_id, region_name):
    backend = ecs.ecs_backends[account_id][region_name]
    cluster, name = resource_name.split("/")[-2:]
    service = backend.services[f"{cluster}:{name}"]
    if service.status == "ACTIVE":
        backend.delete_service(cluster, name, force=True)
    # Gone only when the runner has stopped its tasks, as on AWS.
    deadline = time.monotonic() + STOP_SECONDS
    while any(
        one.group == f"service:{name}" and one.last_status != "STOPPED"
        for one in list(backend.tasks.get(cluster, {}).values())
    ):
        assert time.monotonic() < deadline, f"the tasks of {name} do not stop"
        time.sleep(0.05)


def clean_json(resource_json, resources_map, original=parsing.clean_json):
    """What moto's lacks: Fn::Cidr, and AWS::NoValue in lists."""
    if isinstance(resource_json, dict) and "Fn::Cidr" in resource_json:
        block, count, bits = parsing.clean_json(resource_json["Fn::Cidr"], resources_map)
        subnets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
        return [str(next(subnets)) for _ in range(int(count))]
    cleaned = original(resource_json, resources_map)
    return [one for one in cleaned if one is not None] if isinstance(cleaned, list) else cleaned


def generate_resource_name(resource_type, stack_name, logical_id, original=parsing.generate_resource_name):
    name = original(resource_type, stack_name, logical_id)
    return name.lower() if resource_type == "AWS::ECR::Repository" else name


def build_resource_diff(self, template, parameters=None, original=parsing.ResourceMap.build_resource_diff):
    """What moto's lacks: resources that come and go with a condition."""
    actions = original(self, template, parameters)
    given = {**self.input_parameters, **(parameters or {})}
    name = self._parsed_resources["AWS::StackName"]
    after = parsing.ResourceMap(
        self.stack_id, name, given, self.tags, self._region_name, self._account_id, template, {}
    )
    for load in (after.load_mapping, after.load_parameters, after.load_conditions):
        load()
    for logical, resource in template["Resources"].items():
        if "Condition" not in resource or logical not in self._resource_json_map:
            continue
        was, will_be = logical in self._parsed_resources, after.lazy_condition_map[resource["Condition"]]
        if logical in actions["Modify"] and not (was and will_be):
            actions["Modify"].remove(logical)
        if was is not will_be:
            actions["Add" if will_be else "Remove"].append(logical)
    return actions


def update_resources(self, template, parameters=None, original=parsing.ResourceMap.update):
    gone = build_resource_diff(self, template, parameters)["Remove"]
    original(self, template, parameters)
    for logical in gone:
        self._parsed_resources.pop(logical, None)


def attribute_of_file_system(self, name):
    if name == "Arn":
        return self.file_system_arn
    raise UnformattedGetAttTemplateException()


def attribute_of_access_point(self, name):
    if name in ("Arn", "AccessPointId"):
        return self.access_point_arn if name == "Arn" else self.access_point_id
    raise UnformattedGetAttTemplateException()


def install() -> None:
    """Replaces moto's parts; before the first template is read."""
    parsing.clean_json = clean_json
    parsing.generate_resource_name = generate_resource_name
    parsing.ResourceMap.build_resource_diff = build_resource_diff
    parsing.ResourceMap.update = update_resources
    resolve = CloudFormationBackend._resolve_update_parameters

    def resolve_parameters(self, instance, incoming_params):
        # Moto does not keep the values of parameters that were never given: their defaults.
        known = [
            one for one in incoming_params if "ParameterValue" in one or one["ParameterKey"] in instance.parameters
        ]
        return resolve(self, instance, known)

    CloudFormationBackend._resolve_update_parameters = resolve_parameters
    parsing.NULL_MODELS.clear()
    ec2_deletion.install()
    for model, create, update, delete in [
        (ecs.Cluster, create_cluster, None, delete_cluster),
        (ecs.TaskDefinition, create_task_definition, update_task_definition, delete_task_definition),
        (ecs.Service, create_service, update_service, delete_service),
    ]:
        model.create_from_cloudformation_json = classmethod(create)
        if update is not None:
            model.update_from_cloudformation_json = classmethod(update)
        model.delete_from_cloudformation_json = classmethod(delete)
    efs.FileSystem.get_cfn_attribute = attribute_of_file_system
    efs.AccessPoint.get_cfn_attribute = attribute_of_access_point
