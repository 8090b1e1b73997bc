"""The gateway's table from a real API server: what changes it, what does not, and life without the API server."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.cluster import Cluster
from tests.support.engine import Engine, Reply, until
from tests.support.namespace import (
    OLLAMA,
    Namespace,
    crds_fixture,
    encoded,
    fill,
    hosted,
    proxy_fixture,
    space_fixture,
)
from tests.support.tcp_proxy import TcpProxy

from pointsman.gateway.sources.cluster import ClusterSource
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState
from pointsman.kube.connect import connect
from pointsman.kube.reflector import Reflector, Selection

__all__ = ["crds_fixture", "proxy_fixture", "space_fixture"]

DIGEST = "sha256:" + "b" * 64


@dataclass(frozen=True)
class Running:
    state: GatewayState
    status: SourceStatus
    told: list[Any]

    @property
    def targets(self) -> list[str]:
        route = self.state.table.names.get("chat")
        return [t.backend.name for t in route.targets] if route else []

    def ports(self, backend: str = "local") -> list[int]:
        found = self.state.table.backends.get(backend)
        return sorted(e.port for e in found.endpoints) if found else []

    def credential(self) -> str | None:
        found = self.state.table.backends.get("hosted")
        return found.credential.value if found and found.credential else None


@asynccontextmanager
async def running(space: Namespace, proxy: TcpProxy, **options: Any) -> AsyncIterator[Running]:
    state = GatewayState("test")
    status = SourceStatus("cluster", space.name)
    told: list[Any] = []
    state.subscribe(told.append)
    through = replace(space.connection, server=f"https://127.0.0.1:{proxy.port}")
    task = asyncio.create_task(ClusterSource(through, space.name, state, status, **options).run())
    try:
        yield Running(state, status, told)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_resources_endpoints_and_secrets_become_the_table(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        assert gateway.targets == ["local", "hosted"]
        assert gateway.ports() == [11434]
        assert gateway.credential() == "sk-sesame"
        assert len(gateway.told) == 1, "one table, not one for each kind that came in"


async def test_each_change_is_routed_by_at_once(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        slowest = 0.0
        for change, seen in (
            (lambda: space.pods("local", 11435), lambda: gateway.ports() == [11434, 11435]),
            (lambda: space.pods("local", terminating=(11434,)), lambda: gateway.ports() == [11435]),
            (lambda: space.apply("Secret", "key", data=encoded("sk-2")), lambda: gateway.credential() == "sk-2"),
            (
                lambda: space.set_status("local", {"models": [{"name": "tiny", "digest": DIGEST}]}),
                lambda: gateway.state.table.backends["local"].models["tiny"].endswith("b" * 64),
            ),
            (lambda: space.delete("EndpointSlice", "pmb-local-11435"), lambda: gateway.ports() == []),
            (lambda: space.delete("LLMBackend", "local"), lambda: gateway.targets == ["hosted"]),
            (lambda: space.delete("ModelRoute", "chat"), lambda: gateway.targets == []),
        ):
            await change()
            written = time.monotonic()
            await until(seen)
            slowest = max(slowest, time.monotonic() - written)
        assert slowest < 5.0, "promised: 200 ms; on a busy machine it may take longer"


async def gateways(space: Namespace, **ready: bool) -> None:
    await space.apply(
        "EndpointSlice",
        "gateways",
        labels={"kubernetes.io/service-name": "pointsman-gateway"},
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080}],
        endpoints=[
            {"addresses": [f"10.0.0.{n}"], "conditions": {"ready": on}, "targetRef": {"kind": "Pod", "name": name}}
            for n, (name, on) in enumerate(ready.items(), 1)
        ],
    )


def limit(gateway: Running, name: str = "hosted") -> int | None:
    backend = gateway.state.table.backends.get(name)
    machine = gateway.state.health.machine(backend.endpoints[0].key) if backend else None
    return machine.limit if machine else None


async def test_limits_are_divided_by_the_gateways_that_take_requests(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    await space.apply("LLMBackend", "hosted", spec={**hosted(), "limits": {"maxInFlight": 10}})

    async with running(space, proxy) as gateway:
        await until(lambda: limit(gateway) == 10)
        await gateways(space, test=True, other=True)
        await until(lambda: limit(gateway) == 5)
        await gateways(space, test=False, other=True, third=False)
        await gateways(space, test=False, a=True, b=True, c=True, d=True)
        await until(lambda: limit(gateway) == 2)
        await space.delete("EndpointSlice", "gateways")
        await until(lambda: limit(gateway) == 10)


async def test_a_written_status_does_not_disturb_traffic(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        table = gateway.state.table
        await space.set_status("local", {"readyReplicas": 1, "health": {"state": "Healthy", "latencyMs": 4}})
        await space.apply("Secret", "key", data=encoded("sk-sesame"), labels={"changed": "yes"})
        await space.apply("LLMBackend", "later", spec=hosted())
        await until(lambda: "later" in gateway.state.table.backends)
        assert gateway.state.table.backends["local"] == table.backends["local"]
        assert gateway.state.table.backends["hosted"] == table.backends["hosted"]
        assert len(gateway.told) == 2


async def test_a_secret_that_comes_later_heals_its_backend(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    await space.delete("Secret", "key")
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        assert gateway.targets == ["local"]
        assert gateway.state.table.routes["chat"].broken[0].message.startswith("LLMBackend hosted: Secret key does not")
        await space.apply("Secret", "key", data=encoded("sk-late"))
        await until(lambda: gateway.targets == ["local", "hosted"])


async def test_a_ca_bundle_is_followed_wherever_it_is_held(space: Namespace, proxy: TcpProxy) -> None:
    first, second = (f"-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n" for n in ("MAAA", "MAAB"))
    ref: dict[str, Any] = {"name": "corp-ca"}
    spec = {"engine": "External", "models": [{"name": "m"}], "external": {"url": "https://a.test/v1"}}
    spec["external"]["caBundleRef"] = ref  # type: ignore[index]
    await space.apply("LLMBackend", "b", spec=spec)
    async with running(space, proxy) as gateway:

        def trust() -> str:
            backend = gateway.state.table.backends["b"]
            return backend.trust.pem if backend.trust else backend.unreachable

        await until(lambda: gateway.status.loaded)
        assert trust().startswith("ConfigMap corp-ca does not exist")
        await space.apply("ConfigMap", "corp-ca", data={"ca.crt": first, "other": "1"})
        await until(lambda: trust() == first)
        table = gateway.state.table
        await space.apply("ConfigMap", "corp-ca", data={"ca.crt": first, "other": "2"})
        await space.apply("ConfigMap", "corp-ca", data={"ca.crt": second, "other": "2"})
        await until(lambda: trust() == second)
        assert gateway.told[-2].table is table, "another key of the map is nobody's news"
        ref["kind"] = "Secret"
        await space.apply("Secret", "corp-ca", data={"ca.crt": base64.b64encode(first.encode()).decode()})
        await space.apply("LLMBackend", "b", spec=spec)
        await until(lambda: trust() == first)
        await space.delete("Secret", "corp-ca")
        await until(lambda: trust().startswith("Secret corp-ca does not exist"))


async def test_foreign_slices_do_not_count(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    await space.apply(
        "EndpointSlice",
        "stray",
        labels={"kubernetes.io/service-name": "other", "pointsman.dev/backend": "local"},
        addressType="IPv4",
        ports=[{"name": "http", "port": 1}],
        endpoints=[{"addresses": ["10.6.6.6"]}],
    )
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        assert gateway.ports() == [11434]


async def test_slices_carry_the_labels_of_their_service(space: Namespace) -> None:
    """What the watch of EndpointSlices rests on."""
    await space.apply(
        "Service",
        "pmb-local",
        labels={"pointsman.dev/backend": "local"},
        spec={"selector": {"a": "b"}, "ports": [{"name": "http", "port": 11434, "targetPort": 11434}]},
    )
    seen: list[dict[str, Any]] = []
    slices = Selection("discovery.k8s.io", "v1", "endpointslices", space.name, labels="pointsman.dev/backend")
    task = asyncio.create_task(Reflector(space.connection, slices, lambda items: seen.extend(items.values())).run())
    found = await until(lambda: seen)
    task.cancel()
    assert found[0]["metadata"]["labels"]["kubernetes.io/service-name"] == "pmb-local"


async def test_without_the_api_server_the_table_stays_and_catches_up(space: Namespace, proxy: TcpProxy) -> None:
    await fill(space)
    async with running(space, proxy) as gateway:
        await until(lambda: gateway.status.loaded)
        await proxy.close()
        await space.pods("local", 11435)
        await asyncio.sleep(1.0)
        assert (gateway.targets, gateway.ports()) == (["local", "hosted"], [11434])
        await proxy.open()
        await until(lambda: gateway.ports() == [11434, 11435], 60)
        assert len(gateway.told) == 2


async def test_a_start_without_the_api_server_uses_the_saved_table(
    space: Namespace, proxy: TcpProxy, tmp_path: Path
) -> None:
    await fill(space)
    tags = {"models": [{"name": "tiny:1b"}]}
    async with Engine({"/api/version": Reply(), "/api/tags": Reply(body=tags)}) as alive:
        await space.pods("local", alive.port)
        await space.apply("LLMBackend", "local", spec={**OLLAMA, "limits": {"maxInFlight": 10}})
        await gateways(space, test=True, other=True)
        async with running(space, proxy, state_dir=tmp_path) as gateway:
            await until(lambda: limit(gateway, "local") == 5)
            await until(lambda: (tmp_path / "table.json").exists())
        text = (tmp_path / "table.json").read_text()
        assert "sk-sesame" not in text
        assert encoded("sk-sesame")["api-key"] not in text
        # On loopback the engine of this test is the one pod that answers; the other address has nobody.
        (tmp_path / "table.json").write_text(text.replace("10.9.9.9", "127.0.0.1"))
        await proxy.close()
        async with running(space, proxy, state_dir=tmp_path, first_sync=0.3) as gateway:
            await until(lambda: gateway.status.loaded)
            assert gateway.ports() == [alive.port]
            assert limit(gateway, "local") == 5, "shared with those that were there"
            assert gateway.targets == ["local"], "a backend that needs a Secret waits for the API server"
            await proxy.open()
            await until(lambda: gateway.targets == ["local", "hosted"], 60)
            assert len(gateway.ports()) == 2


async def test_what_was_saved_by_another_namespace_or_release_is_not_used(
    space: Namespace, proxy: TcpProxy, tmp_path: Path
) -> None:
    await proxy.close()
    saved = {"namespace": "other", "backends": {}, "routes": {}, "endpoints": {}, "form": 1}
    for content in ("{", json.dumps(saved), json.dumps({**saved, "namespace": space.name, "form": 99})):
        (tmp_path / "table.json").write_text(content)
        async with running(space, proxy, state_dir=tmp_path, first_sync=0.1) as gateway:
            await asyncio.sleep(0.4)
            assert not gateway.status.loaded


async def test_a_gateway_needs_no_more_than_its_role(
    control_plane: Cluster, space: Namespace, proxy: TcpProxy, tmp_path: Path
) -> None:
    """Reading our kinds and slices, and the one Secret that is named; not another one, and not the list of all."""
    await fill(space)
    await space.apply("Secret", "other", data=encoded("sk-other"))
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": ["pointsman.dev"], "resources": ["llmbackends", "modelroutes"], "verbs": verbs},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["key"], "verbs": verbs},
    ]
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": space.name}
    control_plane.kubectl("-n", space.name, "create", "serviceaccount", "gateway")
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "gateway"}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "gateway"},
        "subjects": [subject],
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "gateway"},
    }
    control_plane.kubectl("-n", space.name, "apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))
    token = control_plane.kubectl("-n", space.name, "create", "token", "gateway").strip()
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    async with await connect(str(kubeconfig)) as narrow, running(replace(space, connection=narrow), proxy) as gateway:
        await until(lambda: gateway.credential() == "sk-sesame")
        await space.apply("LLMBackend", "hosted", spec=hosted("other"))
        await until(lambda: gateway.targets == ["local"])
        await space.apply("LLMBackend", "hosted", spec=hosted("key"))
        await until(lambda: gateway.credential() == "sk-sesame")
