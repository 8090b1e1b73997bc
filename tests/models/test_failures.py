"""What goes wrong with a registry or a volume, and what is made of it."""

import ssl
from pathlib import Path

import pytest
from tests.models.helpers import MIB, assert_whole, pull_noise
from tests.support.ports import free_port
from tests.support.registry import TinyRegistry

from pointsman.models.auth import Credentials
from pointsman.models.errors import PullError, PullReason
from pointsman.models.reference import read_source


async def failing(registry: TinyRegistry, store: Path, **changes: object) -> PullError:
    with pytest.raises(PullError) as caught:
        await pull_noise(registry, store, **changes)
    assert "hunter2" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert not [path for path in (store / "manifests").rglob("*") if path.is_file()]
    return caught.value


async def test_errors_cuts_and_silence_are_sat_out(tree: Path, tmp_path: Path) -> None:
    with TinyRegistry(tree, mode="redirect") as registry:
        registry.faults.fail_gets = 2
        registry.faults.cut_gets, registry.faults.cut_after = 4, 3 * MIB
        registry.faults.stall_gets = 1
        pulled = await pull_noise(registry, tmp_path, stall_seconds=2.0)
    assert_whole(tmp_path, tree)
    assert registry.faults.fail_gets == registry.faults.cut_gets == registry.faults.stall_gets == 0
    assert registry.bytes_served <= pulled.total_bytes + MIB  # each part went on where it broke


async def test_a_registry_that_stays_broken_is_given_up(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.fail_gets = 1000
    error = await failing(registry, tmp_path)
    assert error.reason is PullReason.REGISTRY_ERROR
    assert "500" in error.message


async def test_unknown_model(registry: TinyRegistry, tmp_path: Path) -> None:
    assert (await failing(registry, tmp_path, name="demo/nothing:1")).reason is PullReason.UNKNOWN_MODEL
    assert (await failing(registry, tmp_path, name="demo/noise:2")).reason is PullReason.UNKNOWN_MODEL


async def test_refused_connection(registry: TinyRegistry, tmp_path: Path) -> None:
    source = read_source(f"ollama+http://127.0.0.1:{free_port()}/demo/noise:1")
    error = await failing(registry, tmp_path, source=source)
    assert error.reason is PullReason.REGISTRY_UNREACHABLE
    assert "refused" in error.message


async def test_unknown_host(registry: TinyRegistry, tmp_path: Path) -> None:
    source = read_source("ollama+http://no-such-host.invalid/demo/noise:1")
    error = await failing(registry, tmp_path, source=source)
    assert error.reason is PullReason.REGISTRY_UNREACHABLE


@pytest.mark.parametrize(
    ("credentials", "word"),
    [(Credentials(), "needs"), (Credentials("me", "hunter2"), "given"), (Credentials(token="hunter2"), "given")],
)
@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_refused_credentials(
    registry: TinyRegistry, tmp_path: Path, auth: str, credentials: Credentials, word: str
) -> None:
    registry.faults.auth, registry.faults.username, registry.faults.password = auth, "you", "another"
    error = await failing(registry, tmp_path, credentials=credentials)
    assert error.reason is PullReason.ACCESS_DENIED
    assert word in error.message


async def test_forbidden_model(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.manifest_status = 403
    assert (await failing(registry, tmp_path)).reason is PullReason.ACCESS_DENIED


async def test_a_pin_that_does_not_hold(registry: TinyRegistry, tmp_path: Path) -> None:
    error = await failing(registry, tmp_path, digest="sha256:" + "0" * 64)
    assert error.reason is PullReason.DIGEST_MISMATCH
    assert registry.bytes_served == 0


async def test_damaged_bytes_never_become_a_blob(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.corrupt = True
    error = await failing(registry, tmp_path)
    assert error.reason is PullReason.CORRUPT_BLOB
    assert not list((tmp_path / "blobs").iterdir())
    registry.faults.corrupt = False
    await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, registry.root)


async def test_a_full_disk_is_seen_before_the_first_byte(registry: TinyRegistry, small_volume: Path) -> None:
    error = await failing(registry, small_volume)
    assert error.reason is PullReason.DISK_FULL
    assert "larger" in error.message
    assert registry.bytes_served == 0


async def test_a_disk_that_fills_up_meanwhile(registry: TinyRegistry, small_volume: Path) -> None:
    error = await failing(registry, small_volume, space_margin=-(1 << 40))
    assert error.reason is PullReason.DISK_FULL
    assert registry.bytes_served > 0


async def test_a_volume_that_cannot_be_written(registry: TinyRegistry, read_only_volume: Path) -> None:
    error = await failing(registry, read_only_volume)
    assert error.reason is PullReason.STORE_UNWRITABLE
    assert error.reason.permanent


async def test_tls_is_verified_and_an_own_ca_is_taken(
    tree: Path, tmp_path: Path, certificate_and_key: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certificate_and_key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with TinyRegistry(tree, mode="redirect", tls=context) as registry:
        source = read_source(f"ollama://{registry.host}/demo/noise:1")
        untrusted = await failing(registry, tmp_path / "store", source=source)
        assert untrusted.reason is PullReason.UNTRUSTED_CERTIFICATE
        assert "SSL_CERT_FILE" in untrusted.message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await pull_noise(registry, tmp_path / "store", source=source)
        assert_whole(tmp_path / "store", tree)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
        missing = await failing(registry, tmp_path / "other", source=source)
    assert missing.reason is PullReason.BAD_CONFIGURATION


async def test_tls_to_a_registry_in_plain_text_says_so(registry: TinyRegistry, tmp_path: Path) -> None:
    error = await failing(registry, tmp_path, source=read_source(f"ollama://{registry.host}/demo/noise:1"))
    assert error.reason is PullReason.UNTRUSTED_CERTIFICATE
    assert "ollama+http://" in error.message
