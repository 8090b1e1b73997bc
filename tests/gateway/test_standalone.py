"""`pointsman gateway --manifests`: a real process on real sockets, from its start line to its exit code."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from tests.support import openai_engine
from tests.support.engine import Engine, Reply, until
from tests.support.gateway_process import GatewayProcess, gateway_process

KEY = "sk-sesame"


def backend(name: str, port: int, secret: bool = False) -> str:
    ref = "    secretRef: {name: key}\n" if secret else ""
    return (
        f"apiVersion: pointsman.dev/v1alpha1\nkind: LLMBackend\nmetadata: {{name: {name}}}\nspec:\n  engine: External\n"
        f"  external:\n    url: http://127.0.0.1:{port}/v1\n{ref}  models: [{{name: small}}]\n"
        "  probe: {interval: 200ms, timeout: 5s}\n---\n"
    )


def route(*backends: str, names: str = "chat") -> str:
    targets = "".join(f"  - {{backend: {b}, model: small, priority: {i}}}\n" for i, b in enumerate(backends))
    return (
        "apiVersion: pointsman.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: chat}\n"
        f"spec:\n  models: [{names}]\n  targets:\n{targets}"
    )


SECRET = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{api-key: {KEY}}}\n---\n"


async def get(gateway: GatewayProcess, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(gateway.admin + path) as answer:
        return (await answer.json()) if answer.content_type == "application/json" else await answer.text()


async def test_an_unmodified_client_is_served_and_every_view_agrees(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one")) as one, Engine(openai_engine.replies("two")) as two:
        (tmp_path / "all.yaml").write_text(
            SECRET + backend("one", one.port, secret=True) + backend("two", two.port) + route("one", "two")
        )
        async with gateway_process(tmp_path, "--access-log", "--name", "here") as gateway:
            assert any("2 backends, 1 route" in line for line in gateway.log)
            client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="of-the-client", max_retries=0)
            messages: Any = [{"role": "user", "content": "hi"}]
            whole = await client.chat.completions.create(model="chat", messages=messages)
            assert (whole.choices[0].message.content or "").startswith("one")
            stream = await client.chat.completions.create(model="chat", messages=messages, stream=True)
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            assert text == "one " * 5
            assert [m.id async for m in client.models.list()] == ["chat"]
            sent = next(a for a in one.asked if a.path.endswith("completions"))
            assert sent.headers["Authorization"] == f"Bearer {KEY}"

            one.replies[openai_engine.CHAT] = Reply(500, "<html>down</html>")
            moved = await client.chat.completions.create(model="chat", messages=messages)
            assert (moved.choices[0].message.content or "").startswith("two")
            await client.close()

            shown = await get(gateway, "/v1/backends")
            assert shown["gateway"] == "here"
            assert shown["routes"][0]["last_fallback"]["to_backend"] == "two"
            metrics = await get(gateway, "/metrics")
            assert 'pointsman_requests_total{code="200",route="chat"} 3.0' in metrics
            assert 'pointsman_fallbacks_total{from="one",reason="ServerError",route="chat",to="two"} 1.0' in metrics
            assert 'pointsman_tokens_total{backend="one",direction="output",model="chat"} 10.0' in metrics
            assert 'pointsman_requests_total{code="200",route=""} 1.0' in metrics, "the list of models"
            await until(lambda: len(gateway.out) == 4)
            assert [json.loads(line)["operation"] for line in gateway.out] == ["chat", "chat", "models", "chat"]
            last = json.loads(gateway.out[-1])
            assert (last["backend"], last["attempts"], last["status"], last["route"]) == ("two", 2, 200, "chat")

            gateway.signal(signal.SIGINT)
            assert await gateway.ended() == 0
            everything = "\n".join([*gateway.log, *gateway.out, metrics, json.dumps(shown)])
            assert KEY not in everything
            assert "of-the-client" not in everything
            assert not gateway.messages("error")


async def test_a_bad_file_at_the_start_exits_2_with_all_problems(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        backend("one", 1).replace("http:", "ftp:") + route("one").replace("models", "model")
    )
    (tmp_path / "b.yaml").write_text("kind: Pod\n")
    async with gateway_process(tmp_path, wait=False) as gateway:
        assert await gateway.ended() == 2
        assert gateway.log == [
            "a.yaml:7: spec.external.url: must be the API's base URL with http or https, such as"
            " https://api.openai.com/v1 or http://vllm.team.svc:8000/v1",
            "a.yaml:14: spec.models: is required",
            "a.yaml:15: spec.model: unknown field",
            "b.yaml:1: kind Pod is not read from files: only LLMBackend, ModelRoute, Secret and ConfigMap are",
            f"pointsman: 4 problems in {tmp_path}: nothing is served",
        ]


async def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(backend("one", 1) + route("one"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with gateway_process(tmp_path, "--port", str(taken.getsockname()[1]), wait=False) as gateway:
            assert await gateway.ended() == 1
            assert len(gateway.log) == 1
            assert "address already in use" in gateway.log[0]


async def test_without_a_cluster_and_manifests_it_says_what_to_do(tmp_path: Path) -> None:
    import asyncio
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman", "gateway", "--kubeconfig", str(tmp_path / "none"), "--log-format", "text",
        stderr=asyncio.subprocess.PIPE, env={"HOME": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    _, text = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 3
    assert "to serve without a cluster give --manifests DIR" in text.decode()


async def test_the_report_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(backend("one", 1) + route("one"))
    (tmp_path / "token").write_text("t-file\n")

    async def status(gateway: GatewayProcess, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as http, http.get(f"{gateway.admin}/v1/report", headers=headers) as answer:
            return answer.status

    async with gateway_process(tmp_path, "--report-token-file", str(tmp_path / "token")) as gateway:
        assert [await status(gateway, t) for t in ("", "other", "t-file")] == [401, 401, 200]
    async with gateway_process(tmp_path, POINTSMAN_REPORT_TOKEN="t-env") as gateway:
        assert [await status(gateway, t) for t in ("t-file", "t-env")] == [401, 200]
    async with gateway_process(tmp_path) as gateway:
        assert await status(gateway, "") == 200, "on loopback, without a token, it is open"


@pytest.mark.parametrize("arguments", [("--help",), ("--port", "x")])
async def test_help_and_usage_need_no_cluster(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async with gateway_process(tmp_path, *arguments, wait=False) as gateway:
        assert await gateway.ended() == (0 if arguments == ("--help",) else 2)
