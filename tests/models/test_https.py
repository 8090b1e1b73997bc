"""`https://` from a real nginx, and from a server that does what real ones do at their worst."""

import asyncio
import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.models.helpers import GGUF_HEAD, MIB, QUICK
from tests.support.files_server import FilesServer
from tests.support.nginx import Nginx
from tests.support.ports import free_port

from pointsman.models.auth import Credentials
from pointsman.models.errors import PullError, PullReason
from pointsman.models.pull import Pulled, PullRequest, pull
from pointsman.models.reference import read_source
from pointsman.models.secret_folder import SecretFolder

MODEL = GGUF_HEAD + os.urandom(11 * MIB)
DIGEST = "sha256:" + hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(MODEL)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FilesServer]:
    with FilesServer(root) as running:
        yield running


async def pull_file(url: str, store: Path, **changes: Any) -> Pulled:
    values: dict[str, Any] = {"part_size": 2 * MIB, "policy": QUICK, "digest": DIGEST, **changes}
    return await pull(PullRequest(source=read_source(url), store=store, **values))


async def failing(url: str, store: Path, reason: PullReason, **changes: Any) -> str:
    with pytest.raises(PullError) as caught:
        await pull_file(url, store, **changes)
    assert caught.value.reason is reason, caught.value.message
    assert "hunter2" not in caught.value.message
    return caught.value.message


async def test_a_file_of_nginx_over_tls(
    root: Path, tmp_path: Path, store: Path, certificate_and_key: tuple[Path, Path]
) -> None:
    port = free_port()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "ca.crt").write_bytes(certificate_and_key[0].read_bytes())
    with Nginx(root, tmp_path, port, *certificate_and_key):
        url = f"https://127.0.0.1:{port}/model.gguf"
        assert "ca.crt" in await failing(url, store, PullReason.UNTRUSTED_CERTIFICATE, digest=None)
        pulled = await pull_file(url, store, digest=None, secret=SecretFolder(secret))
        assert (pulled.digest, (store / pulled.path).read_bytes()) == (DIGEST, MODEL)
        again = await pull_file(url, store, digest=None, secret=SecretFolder(secret))
        assert again.fetched_bytes == 0
        missing = await failing(
            f"https://127.0.0.1:{port}/no.gguf", store, PullReason.UNKNOWN_MODEL, secret=SecretFolder(secret)
        )
        assert "no.gguf" in missing


async def test_plain_text_needs_a_pin(server: FilesServer, store: Path) -> None:
    assert "digest" in await failing(f"{server.base}/model.gguf", store, PullReason.BAD_REFERENCE, digest=None)
    assert (await pull_file(f"{server.base}/model.gguf", store)).digest == DIGEST


async def test_a_server_without_ranges_is_read_from_the_start(server: FilesServer, store: Path) -> None:
    server.faults.ignore_ranges = True
    server.faults.cut_gets, server.faults.cut_after = 2, 5 * MIB
    pulled = await pull_file(f"{server.base}/model.gguf", store)
    assert (store / pulled.path).read_bytes() == MODEL


async def test_another_content_than_the_pinned_is_said_and_not_kept(server: FilesServer, store: Path) -> None:
    message = await failing(f"{server.base}/model.gguf", store, PullReason.DIGEST_MISMATCH, digest="sha256:" + "0" * 64)
    assert DIGEST in message
    assert not list((store / "pointsman/blobs").iterdir())
    assert server.bytes_served < len(MODEL) + MIB  # once: it came whole, and is another


async def test_a_file_that_is_replaced_under_a_pull_ends_it(server: FilesServer, root: Path, store: Path) -> None:
    server.pace.rate = 4 * MIB
    pulling = asyncio.create_task(pull_file(f"{server.base}/model.gguf", store, parallel=1))
    async with asyncio.timeout(60):
        while server.bytes_served < 3 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    (root / "model.gguf").write_bytes(MODEL[:-1] + b"x")
    with pytest.raises(PullError) as caught:
        await pulling
    assert caught.value.reason is PullReason.REGISTRY_ERROR
    assert "changed" in caught.value.message


async def test_without_validators_and_pin_each_run_begins_anew(root: Path, tmp_path: Path, store: Path) -> None:
    """Nothing could tell an old half from a new one."""
    from pointsman.api.sources.https import HttpsSource
    from pointsman.models.sources.https import HttpsOrigin
    from pointsman.models.transport import make_client

    with FilesServer(root) as server:
        server.faults.no_validators = True
        async with make_client(1) as client:
            origin = HttpsOrigin(client, HttpsSource(f"{server.base}/model.gguf"), Credentials(), pinned=True)
            first, second = await origin.resolve(), await origin.resolve()
        assert first.files[0].blob.file_name != second.files[0].blob.file_name
        pulled = await pull_file(f"{server.base}/model.gguf", store)  # a pin tells
        assert (store / pulled.path).read_bytes() == MODEL


@pytest.mark.parametrize(
    ("credentials", "demand"),
    [
        (Credentials("me", "hunter2"), "Basic " + base64.b64encode(b"me:hunter2").decode()),
        (Credentials(token="hunter2"), "Bearer hunter2"),
    ],
)
async def test_credentials_go_to_the_server_and_not_where_it_redirects(
    server: FilesServer, store: Path, credentials: Credentials, demand: str
) -> None:
    server.demand = demand
    url = f"{server.base}/moved/model.gguf"
    assert "secretRef" in await failing(url, store, PullReason.ACCESS_DENIED)
    assert "given" in await failing(url, store, PullReason.ACCESS_DENIED, credentials=Credentials(token="no"))
    await pull_file(url, store, credentials=credentials)
    redirected = [entry for entry in server.served if entry.host.startswith("localhost")]
    assert redirected
    assert not any(entry.authorization for entry in redirected)


async def test_a_page_is_no_model(server: FilesServer, store: Path) -> None:
    assert "page" in await failing(f"{server.base}/page", store, PullReason.NOT_A_MODEL)
