"""One namespace of a real API server, with our resources in it, and a proxy before it: for tests of gateways.

A test module gets the fixtures `crds`, `space` and `proxy` by importing the three functions.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from tests.cluster.cluster import Cluster
from tests.support.tcp_proxy import TcpProxy

from pointsman.api import crd
from pointsman.kube.connect import Connection, connect

PATHS = {
    "LLMBackend": "/apis/pointsman.dev/v1alpha1/namespaces/{}/llmbackends",
    "ModelRoute": "/apis/pointsman.dev/v1alpha1/namespaces/{}/modelroutes",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
}
VERSIONS = {"EndpointSlice": "discovery.k8s.io/v1", "Secret": "v1", "ConfigMap": "v1", "Service": "v1"}


@dataclass(frozen=True)
class Namespace:
    name: str
    connection: Connection

    async def apply(self, kind: str, name: str, *, labels: dict[str, str] | None = None, **parts: Any) -> None:
        """Server-side apply."""
        body = {
            "apiVersion": VERSIONS.get(kind, "pointsman.dev/v1alpha1"),
            "kind": kind,
            "metadata": {"name": name, "labels": labels or {}},
            **parts,
        }
        await self.connection.request(
            "PATCH",
            f"{PATHS[kind].format(self.name)}/{name}",
            params={"fieldManager": "test", "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )

    async def set_status(self, name: str, status: dict[str, Any]) -> None:
        await self.connection.request(
            "PATCH",
            f"{PATHS['LLMBackend'].format(self.name)}/{name}/status",
            body={"status": status},
            content_type="application/merge-patch+json",
        )

    async def delete(self, kind: str, name: str) -> None:
        await self.connection.request("DELETE", f"{PATHS[kind].format(self.name)}/{name}")

    async def pods(self, backend: str, *ports: int, terminating: tuple[int, ...] = ()) -> None:
        """The backend's endpoints: pods at these ports, one slice each (a slice has one port)."""
        for port in (*ports, *terminating):
            conditions = {"ready": port not in terminating, "terminating": port in terminating}
            await self.apply(
                "EndpointSlice",
                f"pmb-{backend}-{port}",
                labels={"kubernetes.io/service-name": f"pmb-{backend}", "pointsman.dev/backend": backend},
                addressType="IPv4",
                ports=[{"name": "http", "port": port}],
                endpoints=[
                    {
                        "addresses": ["10.9.9.9"],
                        "conditions": conditions,
                        "targetRef": {"kind": "Pod", "name": f"p-{port}", "uid": f"uid-{port}"},
                    }
                ],
            )


def hosted(secret: str = "key", model: str = "small") -> dict[str, Any]:
    return {
        "engine": "External",
        "models": [{"name": model}],
        "external": {"url": "http://127.0.0.1:9/v1", "secretRef": {"name": secret}},
    }


OLLAMA = {"engine": "Ollama", "models": [{"name": "tiny", "source": "ollama://tiny:1b"}]}
ROUTE = {
    "models": ["chat"],
    "targets": [{"backend": "local", "model": "tiny"}, {"backend": "hosted", "model": "small", "priority": 1}],
}


def encoded(value: str) -> dict[str, str]:
    return {"api-key": base64.b64encode(value.encode()).decode()}


@pytest.fixture(scope="module", name="crds")
def crds_fixture(control_plane: Cluster) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(crd.render().values()))
    for plural in ("llmbackends", "modelroutes"):
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.pointsman.dev")


@pytest.fixture(name="space")
async def space_fixture(control_plane: Cluster, crds: None) -> AsyncIterator[Namespace]:
    name = f"source-{uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    async with await connect(str(control_plane.kubeconfig)) as connection:
        yield Namespace(name, connection)
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(name="proxy")
async def proxy_fixture(space: Namespace) -> AsyncIterator[TcpProxy]:
    server = urlsplit(space.connection.server)
    async with TcpProxy(server.hostname or "", server.port or 443) as proxy:
        yield proxy


async def fill(space: Namespace) -> None:
    await space.apply("Secret", "key", data=encoded("sk-sesame"))
    await space.apply("LLMBackend", "local", spec=OLLAMA)
    await space.apply("LLMBackend", "hosted", spec=hosted())
    await space.apply("ModelRoute", "chat", spec=ROUTE)
    await space.pods("local", 11434)
