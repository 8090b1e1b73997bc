"""Which cluster a test gets: a given one, else kind, else one of processes. Decided here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster import kind, processes
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Plan, Profile

GIVEN = "POINTSMAN_KUBECONFIG"
GIVEN_HOST_IP = "POINTSMAN_HOST_IP"

DEFAULT_NAMES: dict[Profile, str] = {"full": "pointsman", "control-plane": "pointsman-api"}


def given(profile: Profile = "full") -> Cluster | None:
    """The cluster of ``$POINTSMAN_KUBECONFIG``; ``$POINTSMAN_HOST_IP`` says how its pods reach this machine."""
    path = os.environ.get(GIVEN)
    if not path:
        return None
    if not Path(path).is_file():
        raise RuntimeError(f"{GIVEN}={path}: no such file")
    host_ip = os.environ.get(GIVEN_HOST_IP, "")
    return Cluster(name="given", provider="given", profile=profile, kubeconfig=Path(path), host_ip=host_ip)


def find(name: str, profile: Profile) -> Cluster | None:
    """The cluster if it is up."""
    found = given(profile)
    if found:
        return found
    running = processes.find(name)
    if running:
        return _of_processes(running)
    return kind.find(name, profile) if kind.usable() else None


def up(name: str, profile: Profile) -> Cluster:
    """Take the given cluster, or begin one; one that is up already is taken as it is."""
    found = given(profile)
    if found:
        return found
    if kind.usable():
        return kind.up(name, profile)
    return _of_processes(processes.up(name, profile))


def down(name: str) -> None:
    """End the cluster of this name and remove what it left; a given one is never ended."""
    if given():
        return
    if kind.usable() and kind.find(name, "full"):
        kind.down(name)
    else:
        processes.down(name)


def _of_processes(running: Plan) -> Cluster:
    return Cluster(
        name=running.name,
        provider="processes",
        profile=running.profile,
        kubeconfig=running.kubeconfig,
        host_ip=running.host_ip,
        containerd_socket=running.containerd_socket if running.profile == "full" else None,
    )
