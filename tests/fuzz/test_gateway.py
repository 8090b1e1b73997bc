"""A whole gateway, with bytes that nobody sane sends: no error of its own, no hang, no traceback, nothing left."""

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
from pointsman.simulator.behaviour import Act, Behaviour, sends
from pointsman.simulator.connection import Request
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, delta, error, event

CORPUS = sorted((Path(__file__).parent / "corpus" / "requests").iterdir())
SECONDS = 30.0
"""Within which a connection must end whose client sends no more."""
_STATUS = re.compile(rb"(?:^|\r\n\r\n|\n\n|\})HTTP/1\.1 (\d{3}) ")


def manifests(folder: Path, port: int) -> Path:
    (folder / "all.yaml").write_text(
        "apiVersion: pointsman.dev/v1alpha1\nkind: LLMBackend\nmetadata: {name: a}\nspec:\n  engine: External\n"
        f"  external: {{url: 'http://127.0.0.1:{port}/v1'}}\n  models: [{{name: chat}}]\n---\n"
        "apiVersion: pointsman.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: chat}\nspec:\n  models: [chat]\n"
        "  targets: [{backend: a, model: chat}]\n  fallback: {maxAttempts: 1}\n"
        "  timeouts: {firstToken: 20s, answer: 20s, idle: 20s, total: 60s}\n"
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
        for _ in range(600):
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
                    own = [status for status in _STATUS.findall(answer) if status >= b"500"]
                    assert own == [], (data, answer)
                await alive(gateway)
            await nothing_left(gateway)
            no_complaint(gateway)
    finally:
        await backend.refuse()


def no_complaint(gateway: GatewayProcess) -> None:
    assert not gateway.messages("error")
    assert not [line for line in gateway.log if "Traceback" in line]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
STREAM = b"".join(map(event, (ROLE, delta("eins"), delta(tool_calls=[{"index": 0}]), FINISH, DONE)))
WHOLE = [
    (b"application/json", completion("wörter")),
    (b"application/json", error("nein", "context_length_exceeded")),
    (b"text/event-stream", STREAM),
    (b"text/event-stream", b"event: error\ndata: " + error("nein") + b"\n\n"),
]
SPOILS = [
    b"",
    b"\xff",
    b"\xc3",
    b"\x00",
    b'"',
    b"{",
    b"}",
    b"[",
    b"\n",
    b"\r",
    b"data:",
    b"null",
    b"1e999",
    b"-",
    b"\\u",
    b"\\ud83d",
]


def spoilt(draw: random.Random) -> bytes:
    """A good answer, or a good error, with a few bytes changed."""
    kind, body = draw.choice(WHOLE)
    for _ in range(draw.randint(0, 3)):
        at = draw.randrange(len(body))
        body = body[:at] + draw.choice(SPOILS) + body[at + draw.randint(0, 4) :]
    head = (
        HEAD if draw.random() < 0.7 else HEAD.replace(b"200 OK", draw.choice([b"400 X", b"429 X", b"500 X", b"503 X"]))
    )
    return head % (kind, len(body), body)


async def test_any_answer_of_a_backend_is_relayed_or_refused(tmp_path: Path) -> None:
    answers: dict[str, bytes] = {}
    backend = SimulatedBackend("a", ("chat",), 1.0)

    def choose(request: Request) -> Behaviour:
        return sends(answers[request.headers["x-request-id"]], Act.CUT)

    backend.choose = choose
    await backend.start("127.0.0.1", 0)
    draw = random.Random(11)
    try:
        async with gateway_process(manifests(tmp_path, backend.port)) as gateway:
            port = int(gateway.url.rpartition(":")[2])

            async def ask(number: int) -> None:
                name = f"r{number}"
                answers[name] = spoilt(draw)
                async with asyncio.timeout(SECONDS), connected(port) as client:
                    await client.send(chat_request(chat_body(stream=draw.random() < 0.5), f"x-request-id: {name}"))
                    got = await client.receive()
                # What a backend says of the caller's own fault goes on as it is.
                assert got.status in (200, 400) or (got.status > 400 and got.json["error"]), answers[name]
                assert got.whole, answers[name]
                if got.status == 200 and "json" in got.headers["content-type"]:
                    got.body.decode()
                    assert got.json, answers[name]

            for start in range(0, 1500, 50):
                await asyncio.gather(*(ask(n) for n in range(start, start + 50)))
            await nothing_left(gateway)
            no_complaint(gateway)
    finally:
        await backend.refuse()
