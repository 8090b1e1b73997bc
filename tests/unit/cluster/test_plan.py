"""What follows from a cluster's name."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from tests.cluster.plan import SLOTS, Plan, free_slot, state_folder


def test_addresses_of_two_clusters_never_overlap() -> None:
    networks = [
        ipaddress.ip_network(network)
        for slot in range(SLOTS)
        for plan in [Plan("any", "full", slot)]
        for network in (plan.pods, plan.services, f"{plan.node_ip}/30")
        for network in [str(ipaddress.ip_interface(network).network)]
    ]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(networks, 2))


def test_fixed_addresses_lie_in_their_networks() -> None:
    plan = Plan("any", "full", SLOTS - 1)
    services = ipaddress.ip_network(plan.services)
    assert ipaddress.ip_address(plan.api_service) == services[1]
    assert ipaddress.ip_address(plan.dns_service) in services
    cable = ipaddress.ip_interface(f"{plan.host_ip}/30").network
    assert [str(address) for address in cable.hosts()] == [plan.host_ip, plan.node_ip]


def test_slot_is_stable_and_skips_taken_ones() -> None:
    first = free_slot("mine", [])
    assert free_slot("mine", []) == first
    assert free_slot("mine", [first]) == (first + 1) % SLOTS
    with pytest.raises(RuntimeError, match="are taken"):
        free_slot("mine", range(SLOTS))


@pytest.mark.parametrize("name", ["", "Up", "../else", "a" * 33, "-a", "a-"])
def test_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no cluster name"):
        state_folder(name)


def test_cable_name_fits_the_kernel() -> None:
    assert len(Plan("a" * 32, "full", 0).cable) <= 15
