"""The one node: containerd, kubelet and kube-proxy, configured for this cluster's namespaces."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.namespaces import Namespaces
from tests.cluster.plan import CLUSTER_DOMAIN, NODE, Plan

PAUSE_IMAGE = "localhost/pause:test"

_NAMESPACE = "k8s.io"
"""containerd's namespace for what kubelet runs."""
_MEMORY_FOR_IMAGES = 6 * 2**30
"""Bytes of available memory from which on images (under 1 GiB) are kept in memory instead of on the disk."""


def start_containerd(plan: Plan, inside: Namespaces, programs: Mapping[str, Path]) -> None:
    """Start containerd; its images and containers live in the cluster's state folder."""
    folder = plan.state / "containerd"
    cni = folder / "cni"
    cni.mkdir(parents=True)
    root = folder / "root"
    root.mkdir()
    if _available_memory() >= _MEMORY_FOR_IMAGES:
        # Unpacking an image makes ten thousand files that the end of the cluster deletes again: in memory that is
        # several times as fast, and ext4 without a journal is slow at making files where it deleted some just before.
        inside.run(["mount", "-t", "tmpfs", "tmpfs", str(root)])
    config = folder / "config.toml"
    config.write_text(_containerd_config(plan, folder, cni))
    (cni / "10-bridge.conflist").write_text(json.dumps(_cni_config(plan), indent=1))
    # It finds its shim, and that finds runc, by name.
    shim = programs["containerd-shim-runc-v2"].parent
    path = f"{shim}:{os.environ['PATH']}:/usr/sbin:/sbin"
    inside.start("containerd", [str(programs["containerd"]), "--config", str(config)], {"PATH": path})


def start_kubelet(plan: Plan, inside: Namespaces, programs: Mapping[str, Path]) -> None:
    """Start kubelet; it registers the node as soon as the API server and containerd answer."""
    config = plan.state / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(plan), indent=1))
    command = [
        str(programs["kubelet"]),
        f"--config={config}",
        f"--kubeconfig={plan.state / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={plan.node_ip}",
        f"--root-dir={plan.state / 'kubelet'}",
    ]
    # kubelet calls mount, iptables and the like by name; Debian keeps some of them in sbin.
    inside.start("kubelet", command, {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})


def start_proxy(plan: Plan, inside: Namespaces, programs: Mapping[str, Path]) -> None:
    """Start kube-proxy, which makes Services' addresses work."""
    config = plan.state / "proxy.json"
    config.write_text(json.dumps(_proxy_config(plan), indent=1))
    inside.start(
        "proxy", [str(programs["kube-proxy"]), f"--config={config}"], {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    )


def remove_cgroups(state: Path) -> None:
    """Remove the cgroups of containers that were alive at the cluster's end; nobody else will.

    Their parent, named like containerd's namespace, is shared with other clusters, so only our own ids are touched.
    """
    bundles = state / "containerd" / "state" / "io.containerd.runtime.v2.task" / _NAMESPACE
    ids = [entry.name for entry in bundles.iterdir()] if bundles.exists() else []
    hierarchies = Path("/sys/fs/cgroup")  # itself the only one with cgroup v2; with v1 one folder each
    for parent in [hierarchies / _NAMESPACE, *hierarchies.glob(f"*/{_NAMESPACE}")]:
        for top in [parent / identity for identity in ids]:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        with contextlib.suppress(OSError):  # it stays while another cluster has containers
            parent.rmdir()


def snapshotter(folder: Path) -> str:
    """``overlayfs``, but ``native`` (whole copies) where the folder is itself on an overlay, as inside a container."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4]
        if (folder == Path(point) or Path(point) in folder.parents) and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return "native" if kind == "overlay" else "overlayfs"


def _available_memory() -> int:
    """Bytes that can be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def allow_plain_http(state: Path, registry: str) -> None:
    """Let containerd pull from this registry (``host:port``) without TLS. It looks there at each pull."""
    folder = _registries(state) / registry
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'[host."http://{registry}"]\n  capabilities = ["pull", "resolve"]\n')


def _registries(state: Path) -> Path:
    return state / "containerd" / "certs.d"


def _containerd_config(plan: Plan, folder: Path, cni: Path) -> str:
    return f"""\
version = 3
root = "{folder / "root"}"
state = "{folder / "state"}"

[grpc]
  address = "{plan.containerd_socket}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter(plan.state)}"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{_registries(plan.state)}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE a process may not lower its OOM score, and runc would fail on every sandbox with
  # "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # No AppArmor tools are needed for what the tests look at, and not every kernel has it.
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{cni}"
"""


def _cni_config(plan: Plan) -> dict[str, object]:
    # Masquerading is off: pods and machine see each other's real addresses, over the routes that network.py lays.
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": plan.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet_config(plan: Plan) -> dict[str, object]:
    pki = plan.state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki / 'ca.crt'}"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{plan.containerd_socket}",
        "podLogsDir": str(plan.logs / "pods"),
        "clusterDNS": [plan.dns_service],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(plan.state / "resolv.conf"),
        # Works with both cgroup versions and without systemd; limits of single containers are still enforced.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        # The machine is shared with whatever else runs on it: evict only when it is really full.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "syncFrequency": "30s",
        "nodeStatusReportFrequency": "1m",
    }


def _proxy_config(plan: Plan) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(plan.state / "proxy.kubeconfig")},
        "mode": "iptables",
        # The default, which stands for 0 too, is a second; here few Services change, and tests wait for each change.
        "iptables": {"minSyncPeriod": "10ms"},
        "clusterCIDR": plan.pods,
        "hostnameOverride": NODE,
        "nodePortAddresses": ["primary"],
        # Zeros: no sysctl is written, as conntrack's belong to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
