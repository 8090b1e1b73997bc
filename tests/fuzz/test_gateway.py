"""A whole gateway, with bytes that nobody sane sends: no error of its own, no hang, no traceback, nothing left behind."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.wire import CUTS, pieces, requests
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import chat_body, chat_request, connected

from pointsman.simulator.backend import SimulatedBackend

CORPUS = sorted((Path(__file__).parent / "corpus" / "requests").iterdir())
SECONDS = 5.0
"""Within which a connection must end whose client sends no more."""
ALLOWED = {b"100", b"200", b"400", b"404", b"405", b"408", b"413", b"415", b"417", b"431"}
_STATUS = re.compile(rb"(?:^|\r\n\r\n|\n\n|\})HTTP/1\.1 (\d{3}) ")


def manifests(folder: Path, port: int) -> Path:
    (folder / "all.yaml").write_text(
        "apiVersion: pointsman.dev/v1alpha1\nkind: LLMBackend\nmetadata: {name: a}\nspec:\n  engine: External\n"
        f"  external: {{url: 'http://127.0.0.1:{port}/v1'}}\n  models: [{{name: chat}}]\n---\n"
        "apiVersion: pointsman.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: chat}\nspec:\n  models: [chat]\n"
        "  targets: [{backend: a, model: chat}]\n"
    )
    return folder


async def send(gateway: GatewayProcess, parts: list[bytes], half_close: bool) -> bytes:
    """All that came back until the gateway ended the connection."""
    port = int(gateway.url.rpartition(":")[2])
    async with asyncio.timeout(SECONDS), connected(port) as client:
        try:
            for part in parts:
                await client.send(part)
                await asyncio.sleep(0)
            if half_close:
                client.writer.write_eof()
                return await client.reader.read()
        except ConnectionError:
            return b""
        return b""


async def alive(gateway: GatewayProcess) -> None:
    port = int(gateway.url.rpartition(":")[2])
    async with asyncio.timeout(SECONDS), connected(port) as client:
        await client.send(chat_request(chat_body()))
        assert (await client.receive()).status == 200


async def nothing_left(gateway: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(100):
            async with http.get(f"{gateway.admin}/metrics") as answer:
                text = await answer.text()
            if "\npointsman_requests_in_flight 0.0\n" in text:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("requests are still in flight")


async def test_any_bytes_are_answered_or_refused(tmp_path: Path) -> None:
    seeds = [path.read_bytes() for path in CORPUS]
    backend = SimulatedBackend("a", ("chat",), 1.0)
    await backend.start("127.0.0.1", 0)
    try:
        async with gateway_process(manifests(tmp_path, backend.port)) as gateway:
            inputs: list[tuple[bytes, list[int], bool]] = []

            @settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
            @given(requests(), CUTS, st.booleans())
            def draw(data: bytes, cuts: list[int], half_close: bool) -> None:
                inputs.append((data, cuts, half_close))

            await asyncio.to_thread(draw)
            mixed = random.Random(7)
            for _ in range(300):
                # Crossed cases of the corpus, whole and chat requests that work between them.
                data = b"".join(mixed.choice([*seeds, chat_request(chat_body())]) for _ in range(mixed.randint(1, 3)))
                inputs.append((data, [mixed.randrange(len(data) + 1)], mixed.random() < 0.7))
            for start in range(0, len(inputs), 50):
                group = inputs[start : start + 50]
                got = await asyncio.gather(*(send(gateway, pieces(d, c), half) for d, c, half in group))
                for (data, _, _), answer in zip(group, got, strict=True):
                    statuses = set(_STATUS.findall(answer))
                    assert statuses <= ALLOWED, (data, answer)
                await alive(gateway)
            await nothing_left(gateway)
            assert not gateway.messages("error")
            assert not [line for line in gateway.log if "Traceback" in line]
    finally:
        await backend.refuse()
