"""The cluster made of processes: begins one, finds one, ends one. What each daemon is told is in its own file.

Order matters only where a daemon would give up: the API server first, the rest at once, then the node is awaited.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster import (
    archives,
    cache,
    control_plane,
    debian,
    dns,
    network,
    node,
    pki,
    plan,
    procs,
    programs,
    provisioner,
)
from tests.cluster.api import Api
from tests.cluster.namespaces import Namespaces, keeper_file, pause_program
from tests.cluster.plan import NODE, Plan, Profile

_DAEMONS = {
    "control-plane": ("etcd", "apiserver", "controller-manager", "scheduler", "provisioner"),
    "full": (
        "etcd",
        "apiserver",
        "controller-manager",
        "scheduler",
        "provisioner",
        "containerd",
        "kubelet",
        "proxy",
        "coredns",
    ),
}


class NotReady(RuntimeError):
    """A part of the cluster did not become ready; the message ends with the end of its log."""


def find(name: str) -> Plan | None:
    """The plan of the running cluster of this name, or None when there is none or only ruins of one."""
    recorded = _recorded(name)
    if recorded is None or Namespaces.of(recorded.state) is None or not (recorded.state / "ready").exists():
        return None
    return recorded


def names() -> list[str]:
    """Names of all clusters, running or in ruins."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in plan.clusters_folder().iterdir() if entry.is_dir())
    return []


def silent_daemons(running: Plan) -> list[str]:
    """Daemons of a running cluster that have ended by themselves."""
    inside = Namespaces.of(running.state)
    return [daemon for daemon in _DAEMONS[running.profile] if inside is None or not inside.alive(daemon)]


def up(name: str, profile: Profile, api_flags: Sequence[str] = ()) -> Plan:
    """Begin a cluster, after removing what an interrupted one of this name left. Returns when it is Ready. `api_flags`:
    further ones of the API server.

    A running one of the same profile, with every daemon alive, is returned as it is. Raises NotReady, RuntimeError.
    """
    if os.geteuid():
        raise RuntimeError("a cluster of processes needs root; with Docker and kind on the PATH, kind is used instead")
    with cache.locked(f"cluster-{name}"):
        running = find(name)
        if running and not silent_daemons(running):
            if running.profile != profile:
                raise RuntimeError(f"cluster {name} is up as {running.profile}; end it first, or use another --name")
            return running
        full = profile == "full"
        debian.ensure(debian.CONTROL_PLANE, *([debian.NODE] if full else []))
        built = programs.ensure([*programs.CONTROL_PLANE, *(programs.NODE if full else [])])
        _end(name)
        planned = _reserve(name, profile)
        try:
            _begin(planned, built, api_flags)
        except BaseException:
            # Logs are what the reader of a failure needs; the next `up` or a `down` removes them.
            procs.end(keeper_file(planned.state))
            raise
        return planned


def down(name: str) -> None:
    """End the cluster and remove everything it made. Harmless when there is none."""
    with cache.locked(f"cluster-{name}"):
        _end(name)


def _begin(planned: Plan, built: dict[str, Path], api_flags: Sequence[str]) -> None:
    full = planned.profile == "full"
    dns.write_resolv_conf(planned)
    pki.make(planned)
    inside = Namespaces.create(planned.state)
    network.connect(planned, inside)
    control_plane.start_api_server(planned, inside, built, api_flags)
    if full:
        node.start_containerd(planned, inside, built)
    api = Api(planned.api, planned.state / "pki")
    _until(inside, "apiserver", "the API server to be ready", lambda: api.ready())
    # Only now: the controller manager gives up at once while its own permissions are not there yet.
    control_plane.start_controllers(planned, inside, built)
    if full:
        socket = planned.containerd_socket
        _until(inside, "containerd", "containerd to answer", archives.containerd_answers(socket))
        archives.import_archive(socket, archives.pause_archive(pause_program()))
        node.start_kubelet(planned, inside, built)
        node.start_proxy(planned, inside, built)
        dns.start(planned, inside, built)
    for collection, body in [*provisioner.storage_classes(), *(dns.objects(planned) if full else [])]:
        api.apply(collection, body)
    # A pod is refused before its namespace has this account, so a cluster without it is not ready for a test.
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _until(inside, "controller-manager", "the default service account", lambda: api.exists(account))
    if full:
        _until(inside, "kubelet", "the node to be ready", lambda: _node_ready(api))
    (planned.state / "ready").touch()


def _node_ready(api: Api) -> bool:
    for item in api.get("/api/v1/nodes")["items"]:
        if item["metadata"]["name"] == NODE and not item["spec"].get("taints"):
            return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", ()))
    return False


def _until(inside: Namespaces, daemon: str, what: str, ready: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if not inside.alive(daemon) or time.monotonic() > deadline:
            how = "waiting in vain for" if inside.alive(daemon) else f"{daemon} ended by itself, before"
            raise NotReady(f"{how} {what}:\n{inside.last_words(daemon)}")
        time.sleep(0.05)


def _reserve(name: str, profile: Profile) -> Plan:
    """Write down the cluster's slot before anything is made, so that no other cluster takes its addresses."""
    with cache.locked("slots"):
        others = [recorded.slot for other in names() if (recorded := _recorded(other))]
        planned = Plan(name, profile, plan.free_slot(name, others))
        planned.state.mkdir(parents=True)
        (planned.state / "plan.json").write_text(json.dumps({"profile": profile, "slot": planned.slot}))
    return planned


def _recorded(name: str) -> Plan | None:
    try:
        values = json.loads((plan.state_folder(name) / "plan.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return Plan(name, values["profile"], values["slot"])


def _end(name: str) -> None:
    state = plan.state_folder(name)
    procs.end(keeper_file(state))
    # The kernel has ended all that was in the namespaces; what is left are names on the machine.
    network.disconnect(Plan(name, "full", 0))
    node.remove_cgroups(state)
    for _ in range(100):
        shutil.rmtree(state, ignore_errors=True)
        if not state.exists():
            return
        # The last mounts go a moment after the last process.
        time.sleep(0.05)
    print(f"some of {state} could not be removed", file=sys.stderr)
