"""What follows from a cluster's name: its folder, its slot, its addresses. Pure, but for the slots already taken.

A cluster lives in a network namespace of its own, so its ports are everywhere the same; only the addresses that the
machine routes to it, and the name of the cable's end on the machine, must differ between clusters.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.cluster import cache

Profile = Literal["control-plane", "full"]

SLOTS = 64
API_PORT = 6443
NODE = "node1"
CLUSTER_DOMAIN = "cluster.local"
HOST_NAME = "host.pointsman.test"
"""Name under which a pod finds the machine; ``.test`` is reserved for such use (RFC 6761)."""


@dataclass(frozen=True)
class Plan:
    """One cluster's places and addresses.

    A slot s owns 10.(128+s).0.0/16: the lower half for pods, the next quarter for Services, the last four addresses for
    the cable between the machine (.1) and the cluster (.2).
    """

    name: str
    profile: Profile
    slot: int

    @property
    def state(self) -> Path:
        return state_folder(self.name)

    @property
    def _prefix(self) -> str:
        return f"10.{128 + self.slot}"

    @property
    def pods(self) -> str:
        return f"{self._prefix}.0.0/17"

    @property
    def services(self) -> str:
        return f"{self._prefix}.128.0/18"

    @property
    def api_service(self) -> str:
        return f"{self._prefix}.128.1"

    @property
    def dns_service(self) -> str:
        return f"{self._prefix}.128.10"

    @property
    def host_ip(self) -> str:
        """The machine, as the cluster and its pods see it."""
        return f"{self._prefix}.255.1"

    @property
    def node_ip(self) -> str:
        """The cluster's only node, its API server and its DNS server, as the machine and the pods see them."""
        return f"{self._prefix}.255.2"

    @property
    def cable(self) -> str:
        """The machine's end of the veth pair; at most 15 characters (IFNAMSIZ)."""
        return f"pm{cache.digest(self.name)[:10]}"

    @property
    def api(self) -> str:
        return f"https://{self.node_ip}:{API_PORT}"

    @property
    def logs(self) -> Path:
        """One file a daemon, and the pods' own logs below ``pods``."""
        return self.state / "log"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd" / "containerd.sock"


def clusters_folder() -> Path:
    return cache.root() / "clusters"


def state_folder(name: str) -> Path:
    """Raises ValueError for a name that would not do as a folder, a cgroup or a DNS label."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ValueError(f"{name!r} is no cluster name: use up to 32 lower-case letters, digits and dashes")
    return clusters_folder() / name


def free_slot(name: str, taken: Collection[int]) -> int:
    """The slot that the name hashes to, or the next one that no other cluster on this machine holds."""
    first = int(cache.digest(name), 16) % SLOTS
    for step in range(SLOTS):
        slot = (first + step) % SLOTS
        if slot not in taken:
            return slot
    raise RuntimeError(f"all {SLOTS} cluster slots of this machine are taken; end one: python -m tests.cluster status")
