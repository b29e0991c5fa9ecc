"""How CloudFormation deletes the parts of a network, which moto makes but never deletes."""

from __future__ import annotations

from typing import Any

from moto.ec2.models import (
    ec2_backends,
    elastic_ip_addresses,
    internet_gateways,
    nat_gateways,
    route_tables,
    security_groups,
    subnets,
    vpcs,
    vpn_gateway,
)


def backend_of(account_id: str, region_name: str) -> Any:
    return ec2_backends[account_id][region_name]


def delete_address(self, account_id, region_name):
    assert self.allocation_id not in nat_allocations(backend_of(account_id, region_name)), "a NAT gateway has it"
    backend_of(account_id, region_name).release_address(allocation_id=self.allocation_id)


def nat_allocations(backend: Any) -> set[str]:
    addresses = [address for gateway in backend.nat_gateways.values() for address in gateway.address_set]
    # Private gateways have none.
    return {address["allocationId"] for address in addresses if "allocationId" in address}


def delete_nat_gateway(self, account_id, region_name):
    backend = backend_of(account_id, region_name)
    backend.nat_gateways.pop(self.id)
    for address in self.address_set:
        backend.enis.pop(address["networkInterfaceId"], None)


def delete_internet_gateway(self, account_id, region_name):
    backend_of(account_id, region_name).delete_internet_gateway(self.id)


def delete_gateway_attachment(self, account_id, region_name):
    backend = backend_of(account_id, region_name)
    gateway = next(one for one in backend.internet_gateways.values() if one.vpc and one.vpc.id == self.vpc_id)
    backend.detach_internet_gateway(gateway.id, self.vpc_id)


def delete_route_table(self, account_id, region_name):
    backend_of(account_id, region_name).delete_route_table(self.id)


def delete_association(self, account_id, region_name):
    backend = backend_of(account_id, region_name)
    table = backend.route_tables.get(self.route_table_id)
    if table is None:
        return
    for name in [name for name, subnet in table._associations.items() if subnet == self.subnet_id]:
        backend.disassociate_route_table(name)


def delete_endpoint(self, account_id, region_name):
    backend_of(account_id, region_name).vpc_end_points.pop(self.id)


def delete_with_owner(self, account_id, region_name):
    """Routes and rules go with their table and group."""


def install() -> None:
    for model, delete in [
        (elastic_ip_addresses.ElasticAddress, delete_address),
        (nat_gateways.NatGateway, delete_nat_gateway),
        (internet_gateways.InternetGateway, delete_internet_gateway),
        (vpn_gateway.VPCGatewayAttachment, delete_gateway_attachment),
        (route_tables.RouteTable, delete_route_table),
        (subnets.SubnetRouteTableAssociation, delete_association),
        (vpcs.VPCEndPoint, delete_endpoint),
        (route_tables.Route, delete_with_owner),
        (security_groups.SecurityGroupIngress, delete_with_owner),
    ]:
        model.delete = delete
