"""`s3://` from a real S3 server: folders and keys, with what credentials and replaced objects do to a pull."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from tests.models.helpers import GGUF_HEAD, MIB, QUICK, content, safetensors
from tests.support.counted import Counted
from tests.support.ports import free_port
from tests.support.s3 import KEY, S3, WORD

from pointsman.models.errors import PullError, PullReason
from pointsman.models.pull import Pulled, PullRequest, pull
from pointsman.models.reference import read_source
from pointsman.models.secret_folder import SecretFolder

FILES = {"config.json": b"{}", "sub/vocab.txt": b"a b c", "model.safetensors": safetensors(9 * MIB)}
GGUF = GGUF_HEAD + os.urandom(5 * MIB)


@pytest.fixture(scope="module", autouse=True)
def bucket(s3: S3) -> None:
    for name, data in FILES.items():
        s3.put("models", f"team/llama/{name}", data)
    s3.put("models", "team/llama-other/config.json", b"not this")
    s3.put("models", "team/tiny.gguf", GGUF)


async def pull_s3(s3: S3, source: str, store: Path, env: dict[str, str] | None = None, **changes: Any) -> Pulled:
    environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": WORD, "AWS_ENDPOINT_URL": s3.endpoint}
    secret = SecretFolder(None, {**environment, **(env or {})})
    request = PullRequest(
        source=read_source(source), store=store, secret=secret, policy=QUICK, part_size=4 * MIB, **changes
    )
    return await pull(request)


async def failing(s3: S3, source: str, store: Path, reason: PullReason, env: dict[str, str] | None = None) -> str:
    with pytest.raises(PullError) as caught:
        await pull_s3(s3, source, store, env)
    assert caught.value.reason is reason, caught.value.message
    assert WORD not in caught.value.message
    assert "Signature" not in caught.value.message
    assert not list((store / "pointsman/models").iterdir())
    return caught.value.message


async def test_a_prefix_becomes_a_folder(s3: S3, store: Path) -> None:
    pulled = await pull_s3(s3, "s3://models/team/llama", store)
    assert content(store / pulled.path) == FILES
    assert pulled.fetched_bytes == sum(map(len, FILES.values()))
    again = await pull_s3(s3, "s3://models/team/llama/", store)
    assert (again.path, again.digest, again.fetched_bytes) == (pulled.path, pulled.digest, 0)


async def test_a_key_becomes_a_file_and_a_pin_is_its_sha256(s3: S3, store: Path) -> None:
    digest = "sha256:" + hashlib.sha256(GGUF).hexdigest()
    pulled = await pull_s3(s3, "s3://models/team/tiny.gguf", store)
    assert (pulled.digest, (store / pulled.path).read_bytes()) == (digest, GGUF)
    assert (await pull_s3(s3, "s3://models/team/tiny.gguf", store, digest=digest)).fetched_bytes == 0
    with pytest.raises(PullError) as caught:
        await pull_s3(s3, "s3://models/team/tiny.gguf", store, digest="sha256:" + "0" * 64)
    assert caught.value.reason is PullReason.DIGEST_MISMATCH


async def test_an_object_that_is_replaced_under_a_pull_ends_it(s3: S3, store: Path) -> None:
    key = "team/changing.gguf"
    s3.put("models", key, GGUF)
    with Counted("127.0.0.1", s3.port, rate=2 * MIB) as proxy:
        env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        pulling = asyncio.create_task(pull_s3(s3, f"s3://models/{key}", store, env, parallel=1))
        async with asyncio.timeout(60):
            while proxy.bytes_served < MIB:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.to_thread(s3.put, "models", key, GGUF[::-1][:-8] + GGUF_HEAD)
        with pytest.raises(PullError) as caught:
            await pulling
    assert caught.value.reason is PullReason.REGISTRY_ERROR
    assert "changed" in caught.value.message
    assert not list((store / "pointsman/blobs").iterdir())


@pytest.mark.parametrize(
    ("source", "env", "reason", "word"),
    [
        ("s3://models/team/none.gguf", {}, PullReason.UNKNOWN_MODEL, "s3://models/team/none.gguf"),
        ("s3://models/team/none", {}, PullReason.UNKNOWN_MODEL, "team/none"),
        ("s3://nobucket/a.gguf", {}, PullReason.UNKNOWN_MODEL, "nobucket"),
        ("s3://models/team/llama", {"AWS_SECRET_ACCESS_KEY": "wrong"}, PullReason.ACCESS_DENIED, "refused"),
        ("s3://models/team/llama", {"AWS_ACCESS_KEY_ID": "nobody"}, PullReason.ACCESS_DENIED, "refused"),
        (
            "s3://models/team/llama",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            PullReason.ACCESS_DENIED,
            "not public",
        ),
        (
            "s3://models/team/tiny.gguf",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            PullReason.ACCESS_DENIED,
            "not public",
        ),
        ("s3://models/a.gguf", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, PullReason.REGISTRY_UNREACHABLE, "reach"),
    ],
)
async def test_what_s3_refuses_is_one_sentence(
    s3: S3, store: Path, source: str, env: dict[str, str], reason: PullReason, word: str
) -> None:
    assert word in await failing(s3, source, store, reason, env)


async def test_half_a_pair_of_keys_is_said_at_once(s3: S3, store: Path) -> None:
    with pytest.raises(PullError) as caught:
        await pull_s3(s3, "s3://models/team/llama", store, {"AWS_SECRET_ACCESS_KEY": ""})
    assert caught.value.reason is PullReason.BAD_CONFIGURATION


async def test_a_server_that_restarts_under_a_pull_harms_nothing(tmp_path: Path, store: Path) -> None:
    port = free_port()
    first = S3(tmp_path / "s3", port)
    with first:
        first.put("models", "m.gguf", GGUF)
        with Counted("127.0.0.1", port, rate=4 * MIB) as proxy:
            env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
            pulling = asyncio.create_task(pull_s3(first, "s3://models/m.gguf", store, env))
            async with asyncio.timeout(60):
                while proxy.bytes_served < 2 * MIB:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(first.__exit__, None, None, None)
            await asyncio.to_thread(first.__enter__)
            pulled = await pulling
    assert (store / pulled.path).read_bytes() == GGUF
