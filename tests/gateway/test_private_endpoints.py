"""`pointsman gateway` as people run it: a CA bundle from a manifest, a proxy from the environment."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.certificates import Authority
from tests.support.engine import Engine, Reply, until
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.http_proxy import HttpProxy

COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
REPLIES: dict[str, Any] = {"/v1/models": Reply(), "/v1/chat/completions": Reply(body=COMPLETION)}
ROUTE = """
---
apiVersion: pointsman.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec: {models: [chat], targets: [{backend: inside, model: m}]}
"""


def backend(external: dict[str, Any]) -> str:
    spec = {"engine": "External", "models": [{"name": "m"}], "external": external, "probe": {"interval": "200ms"}}
    body = {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": {"name": "inside"}, "spec": spec}
    return json.dumps(body) + ROUTE


def config_map(pem: str) -> str:
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: corp-ca}\ndata:\n  ca.crt: |\n"
    return head + textwrap.indent(pem, "    ")


async def ask(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        return await http.post(f"{url}/v1/chat/completions", json=body)


async def health(admin: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        (found,) = (await http.get(f"{admin}/v1/backends")).json()["backends"]
    return dict(found)


async def refused(gateway: GatewayProcess, sentence: str) -> bool:
    """Asks, and looks how that is called."""
    await ask(gateway.url)
    return (await health(gateway.admin)).get("message") == sentence


async def answered(gateway: GatewayProcess) -> bool:
    return (await ask(gateway.url)).status_code == 200


async def healthy(gateway: GatewayProcess) -> bool:
    return (await health(gateway.admin))["state"] == "Healthy"


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(600):
        if await check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come")


async def test_a_bundle_from_a_manifest_is_followed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ours = Authority(tmp_path_factory.mktemp("ours"))
    theirs = Authority(tmp_path_factory.mktemp("theirs"))
    async with Engine(REPLIES, tls=ours.server("good")) as engine:
        external = {"url": f"{engine.url}/v1", "caBundleRef": {"name": "corp-ca"}}
        (tmp_path / "backend.yaml").write_text(backend(external))
        async with gateway_process(tmp_path) as gateway:
            missing = await health(gateway.admin)
            assert missing["reason"] == "CaBundleMissing"
            assert (await ask(gateway.url)).status_code == 503
            (tmp_path / "ca.yaml").write_text(config_map(theirs.pem))

            sentence = "its certificate is signed by another authority than those of external.caBundleRef"
            await eventually(lambda: refused(gateway, sentence))
            (tmp_path / "ca.yaml").write_text(config_map(ours.pem))
            await eventually(lambda: answered(gateway))
            assert "BEGIN CERTIFICATE" not in "\n".join(gateway.log)


async def test_the_proxy_of_the_environment_is_used_for_traffic_and_checks(tmp_path: Path) -> None:
    (tmp_path / "backend.yaml").write_text(backend({"url": "http://engine.test:8000/v1"}))
    async with Engine(REPLIES) as engine, HttpProxy({"engine.test:8000": engine.port}) as proxy:
        environment = {"HTTP_PROXY": f"http://me:hunter2@127.0.0.1:{proxy.port}", "NO_PROXY": "other.test"}
        async with gateway_process(tmp_path, **environment) as gateway:
            assert (await ask(gateway.url)).status_code == 200
            await until(lambda: {line.split()[0] for line in proxy.asked} == {"GET", "POST"})
            await eventually(lambda: healthy(gateway))
            assert "hunter2" not in "\n".join(gateway.log) + json.dumps(await health(gateway.admin))
