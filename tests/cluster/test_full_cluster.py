"""What the other tests take for granted of a cluster with a node."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import full_cluster  # noqa: F401  (a fixture)
from tests.cluster.images import POINTSMAN

NAMESPACE = "cluster-selftest"
SERVER = "server"
"""Not named like the Service: a pod's own name is in its hosts file and would hide the Service's."""
WEB = """
import http.server, os, pathlib
pathlib.Path("/data/answer").write_text("from the volume")
os.chdir("/data")
print("serving", flush=True)
http.server.ThreadingHTTPServer(("", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def pod(name: str, command: list[str], **spec: Any) -> dict[str, Any]:
    """A pod that the profile "restricted" admits: not root, nothing writable but its volumes."""
    container = {
        "name": "main",
        "image": POINTSMAN,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **spec.pop("container", {}),
    }
    security = {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    whole = {"securityContext": security, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def eventually(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait for a condition that the cluster brings about in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(full_cluster: Cluster) -> Iterator[Cluster]:  # noqa: F811  (pytest passes the fixture by its name)
    """The cluster with a namespace that enforces the profile "restricted" and a web server on a volume in it."""
    full_cluster.load_image(POINTSMAN)
    full_cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=90)
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": SERVER}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    web = pod(
        SERVER,
        ["python", "-c", WEB],
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        container={
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "readinessProbe": {"httpGet": {"path": "/answer", "port": 8080}, "periodSeconds": 1},
        },
    )
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(full_cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": enforce}})
    account = ("get", "serviceaccount", "default", "-n", NAMESPACE, "--ignore-not-found")
    eventually(lambda: full_cluster.kubectl(*account), "the namespace has its service account")
    apply(full_cluster, claim, service, web)
    full_cluster.kubectl("wait", f"pod/{SERVER}", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=55s")
    yield full_cluster
    full_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def answers(cluster: Cluster, code: str, expected: str) -> bool:
    said = cluster.kubectl("exec", "-n", NAMESPACE, SERVER, "--", "python", "-c", code, check=False)
    return said.strip() == expected


def inside(cluster: Cluster, code: str) -> str:
    """Run Python in the web pod."""
    return cluster.kubectl("exec", "-n", NAMESPACE, SERVER, "--", "python", "-c", code).strip()


def test_pod_of_any_user_writes_to_its_volume_and_logs_are_read(cluster: Cluster) -> None:
    assert inside(cluster, "print(open('/data/answer').read())") == "from the volume"
    assert inside(cluster, "import os; print(os.getuid())") == "65532"
    assert "serving" in cluster.kubectl("logs", "-n", NAMESPACE, SERVER)


def test_image_runs_its_program_without_writing(cluster: Cluster) -> None:
    said = cluster.kubectl("exec", "-n", NAMESPACE, SERVER, "--", "pointsman", "--help")
    assert "Usage: pointsman" in said


def test_service_name_resolves_and_answers(cluster: Cluster) -> None:
    for name in ("web", f"web.{NAMESPACE}.svc", f"web.{NAMESPACE}.svc.cluster.local"):
        code = f"import urllib.request as u; print(u.urlopen('http://{name}/answer', timeout=5).read().decode())"
        # A pod is ready a moment before every node forwards to it.
        eventually(partial(answers, cluster, code, "from the volume"), f"{name} answers")


def test_pod_calls_the_api_server_by_name(cluster: Cluster) -> None:
    code = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
call = urllib.request.Request("https://kubernetes.default.svc/version")
call.add_header("Authorization", "Bearer " + open(folder + "token").read())
tls = ssl.create_default_context(cafile=folder + "ca.crt")
print(urllib.request.urlopen(call, context=tls, timeout=5).status)
"""
    assert inside(cluster, code) == "200"


def test_pod_reaches_a_server_on_the_machine(cluster: Cluster) -> None:
    if not cluster.host_ip:
        pytest.fail("say by POINTSMAN_HOST_IP under which address pods of the given cluster reach this machine")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer((cluster.host_ip, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = cluster.environment()["HOST_NAME"]
        code = f"import urllib.request as u; print(u.urlopen('http://{host}:{server.server_port}/', timeout=5).status)"
        try:
            assert inside(cluster, code) == "204"
        finally:
            server.shutdown()


def test_unknown_host_name_fails_at_once(cluster: Cluster) -> None:
    if cluster.provider != "processes":
        pytest.skip("other clusters may have a way to the Internet")
    code = """
import socket, time
started = time.monotonic()
try:
    socket.getaddrinfo("registry.example.com", 443)
except socket.gaierror:
    print(time.monotonic() - started)
"""
    assert float(inside(cluster, code)) < 4, "a resolver that hears nothing waits for 5 s"


def test_missing_gpu_is_named_and_a_promised_one_is_used(cluster: Cluster) -> None:
    node = cluster.kubectl("get", "nodes", "-o", "name").split()[0].removeprefix("node/")
    # A resource of our own name, so that a cluster with real GPUs gives the same answer.
    resource = "pointsman.dev/test-gpu"
    apply(cluster, pod("gpu", ["sleep", "600"], container={"resources": {"limits": {resource: "1"}}}))
    message = ("get", "pod", "gpu", "-n", NAMESPACE, "-o", "jsonpath={.status.conditions[0].message}")
    eventually(lambda: f"Insufficient {resource}" in cluster.kubectl(*message), "the scheduler says what is missing")
    cluster.set_extended_resource(resource, 1, node)
    try:
        cluster.kubectl("wait", "pod/gpu", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=55s")
    finally:
        cluster.kubectl("delete", "pod", "gpu", "-n", NAMESPACE, "--now")
        cluster.set_extended_resource(resource, 0, node)


def test_claim_grows_and_its_volume_goes_with_it(cluster: Cluster) -> None:
    if cluster.provider != "processes":
        pytest.skip("the storage of other clusters is not ours to judge")
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "growing", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "local-immediate",
        },
    }
    apply(cluster, claim)
    cluster.kubectl("wait", "pvc/growing", "-n", NAMESPACE, "--for=jsonpath={.status.phase}=Bound", "--timeout=55s")
    claim["spec"]["resources"] = {"requests": {"storage": "2Gi"}}
    apply(cluster, claim)
    grown = "--for=jsonpath={.status.capacity.storage}=2Gi"
    cluster.kubectl("wait", "pvc/growing", "-n", NAMESPACE, grown, "--timeout=55s")
    volume = cluster.kubectl("get", "pvc", "growing", "-n", NAMESPACE, "-o", "jsonpath={.spec.volumeName}")
    cluster.kubectl("delete", "pvc", "growing", "-n", NAMESPACE)
    eventually(lambda: not cluster.kubectl("get", "pv", volume, "--ignore-not-found"), "the volume is removed")


def test_pods_outlive_the_api_server(cluster: Cluster) -> None:
    if cluster.provider != "processes":
        pytest.skip("the API server of other clusters is not ours to stop")
    address = cluster.kubectl("get", "pod", SERVER, "-n", NAMESPACE, "-o", "jsonpath={.status.podIP}")
    cluster.stop_daemon("apiserver")
    try:
        assert urllib.request.urlopen(f"http://{address}:8080/answer", timeout=5).read() == b"from the volume"
        with pytest.raises(RuntimeError):
            cluster.kubectl("get", "nodes", "--request-timeout=2s")
    finally:
        cluster.start_daemon("apiserver")
        eventually(lambda: cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok", "the API server is back")
