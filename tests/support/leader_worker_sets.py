"""The real LeaderWorkerSet in a cluster: its kind, its controller as a process of this machine, its webhooks.

Only the certificate of the webhooks and the way to them are ours: the API server calls the machine's own address.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import programs
from tests.cluster.cluster import Cluster

GROUP = "leaderworkerset.x-k8s.io/v1"
CRD = "leaderworkersets.leaderworkerset.x-k8s.io"
_SELECTOR = {"matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]}
"""Of the webhooks for pods, as in their own installation: other pods do not wait for them."""
_TRIAL = {
    "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "trial"},
    "spec": {"leaderWorkerTemplate": {"workerTemplate": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}},
}  # fmt: skip


def install(cluster: Cluster) -> None:
    """The kind alone."""
    cluster.kubectl("apply", "--server-side", "-f", str(_file("leaderworkerset.x-k8s.io_leaderworkersets.yaml")))
    # `kubectl wait` fails on a definition that has no conditions yet.
    until = time.monotonic() + 30
    while not cluster.kubectl("get", f"--raw=/apis/{GROUP}", check=False):
        assert time.monotonic() < until, "the API server does not serve the kind"
        time.sleep(0.1)


def remove(cluster: Cluster) -> None:
    """The kind, and all that there is of it."""
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found", "--timeout=60s", timeout=70)


@contextlib.contextmanager
def controller(cluster: Cluster) -> Iterator[None]:
    """The kind must be there. Webhooks answer when this begins, and are taken away when it ends."""
    with tempfile.TemporaryDirectory(prefix="lws-") as scratch:
        folder = Path(scratch)
        port = _free_port()
        _certificate(folder, cluster.host_ip)
        config = {
            "apiVersion": "config.lws.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
            "webhook": {"port": port, "certDir": scratch},
            "metrics": {"bindAddress": "127.0.0.1:0"},
            "health": {"healthProbeBindAddress": "127.0.0.1:0"},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        program = programs.ensure(["lws"])["lws"]
        log = folder / "log"
        with log.open("wb") as output:
            command = [str(program), f"--config={folder}/config.yaml", f"--kubeconfig={cluster.kubeconfig}"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                hooks = _webhooks(f"https://{cluster.host_ip}:{port}", (folder / "tls.crt").read_bytes())
                text = yaml.safe_dump_all(hooks)
                cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
                _wait(cluster, process, log)
                yield
            finally:
                for hook in hooks:
                    cluster.kubectl("delete", hook["kind"], hook["metadata"]["name"], "--ignore-not-found", check=False)
                process.terminate()
                process.wait(30)


def _wait(cluster: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a LeaderWorkerSet would be taken."""
    until = time.monotonic() + 60
    said = ""
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            cluster.kubectl("-n", "default", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(_TRIAL))
            return
        except RuntimeError as error:
            said = str(error)
        time.sleep(0.2)
    raise RuntimeError(f"LeaderWorkerSet's controller does not work: {said}\n{log.read_text()[-2000:]}")


def _webhooks(url: str, authority: bytes) -> list[dict[str, Any]]:
    out = []
    for body in yaml.safe_load_all(_file("manifests.yaml").read_text()):
        body["metadata"]["name"] = f"lws-{body['metadata']['name']}"
        for hook in body["webhooks"]:
            path = hook["clientConfig"]["service"]["path"]
            bundle = base64.b64encode(authority).decode()
            hook["clientConfig"] = {"url": f"{url}{path}", "caBundle": bundle}
            if any("pods" in rule["resources"] for rule in hook["rules"]):
                hook["objectSelector"] = _SELECTOR
        out.append(body)
    return out


def _file(name: str) -> Path:
    return programs.ensure(["lws"])["lws"].parent / name


def _certificate(folder: Path, address: str) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    who = ["-subj", "/CN=lws", "-addext", f"subjectAltName=IP:{address}"]
    command = ["openssl", "req", "-x509", *curve, "-keyout", "tls.key", "-out", "tls.crt", "-days", "2", *who]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
