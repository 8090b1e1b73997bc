"""A kind cluster, where Docker and kind are there: the usual developer's machine and hosted CI."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.cluster import plan
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Profile


def usable() -> bool:
    """Whether both programs are there and the Docker daemon answers."""
    if not shutil.which("kind") or not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0


def find(name: str, profile: Profile) -> Cluster | None:
    """The running cluster of this name."""
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False)
    return _handle(name, profile) if name in listed.stdout.split() else None


def up(name: str, profile: Profile) -> Cluster:
    """Begin a cluster, or take the running one. Both profiles are the same here: kind always has a node."""
    running = find(name, profile)
    if running:
        return running
    _run("kind", "create", "cluster", "--name", name, "--wait", "120s", "--kubeconfig", str(_kubeconfig(name)))
    return _handle(name, profile)


def down(name: str) -> None:
    """Delete the cluster; harmless when there is none."""
    _run("kind", "delete", "cluster", "--name", name, "--kubeconfig", str(_kubeconfig(name)))
    shutil.rmtree(plan.state_folder(name), ignore_errors=True)


def _handle(name: str, profile: Profile) -> Cluster:
    kubeconfig = _kubeconfig(name)
    if not kubeconfig.exists():
        _run("kind", "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))
    return Cluster(name=name, provider="kind", profile=profile, kubeconfig=kubeconfig, host_ip=_gateway())


def _gateway() -> str:
    """The machine's address on kind's Docker network."""
    network = json.loads(_run("docker", "network", "inspect", "kind"))[0]
    gateways = [str(entry["Gateway"]) for entry in network["IPAM"]["Config"] if "." in entry.get("Gateway", "")]
    if not gateways:
        raise RuntimeError("the Docker network of kind has no IPv4 gateway")
    return gateways[0]


def _kubeconfig(name: str) -> Path:
    path = plan.state_folder(name) / "admin.kubeconfig"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout
