"""The cable between the machine and a cluster, and the addresses on it.

The machine gets routes to the cluster's pods and Services, so a test can call both directly. Nothing goes further: the
machine's own forwarding and firewall stay as they are, and the cluster reaches the machine at ``host_ip`` only.
"""

from __future__ import annotations

import subprocess

from tests.cluster.namespaces import Namespaces
from tests.cluster.plan import Plan


def connect(plan: Plan, inside: Namespaces) -> None:
    """Lay the cable. Its end on the machine disappears by itself together with the cluster's network namespace."""
    _ip("link", "add", plan.cable, "type", "veth", "peer", "name", "eth0", "netns", str(inside.keeper))
    _ip("address", "add", f"{plan.host_ip}/30", "dev", plan.cable)
    _ip("link", "set", plan.cable, "up")
    inside.run(
        [
            "sh",
            "-ec",
            # Replies between two pods on the bridge must pass conntrack, or a Service's address is not translated back;
            # the key is absent where the kernel's br_netfilter is not loaded yet. "unreachable" answers at once what a
            # dropped packet would answer after a minute.
            f"""
            ip link set lo up
            ip address add {plan.node_ip}/30 dev eth0
            ip link set eth0 up
            ip route add unreachable default
            sysctl -q -w net.ipv4.ip_forward=1
            sysctl -q -w net.bridge.bridge-nf-call-iptables=1 2>/dev/null || modprobe br_netfilter || true
            """,
        ]
    )
    for reachable in (plan.pods, plan.services):
        _ip("route", "add", reachable, "via", plan.node_ip)


def disconnect(plan: Plan) -> None:
    """Remove what an interrupted ``connect`` may have left; the routes go with the cable."""
    subprocess.run(["ip", "link", "delete", plan.cable], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
