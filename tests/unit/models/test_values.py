"""Reasons and exit codes, manifests, retries, progress, challenges: the small pure pieces of a pull."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.auth import Challenge, Credentials, read_challenge
from pointsman.models.blob import digest_of
from pointsman.models.errors import PERMANENT_EXIT_CODES, PullError, PullReason
from pointsman.models.manifest import read_manifest
from pointsman.models.outcome import decode_outcome, encode_outcome, failed
from pointsman.models.progress import Meter
from pointsman.models.retry import RetryPolicy

BLOB = {"digest": "sha256:" + "1" * 64, "size": 10, "mediaType": "application/vnd.ollama.image.model"}
CONFIG = {"digest": "sha256:" + "2" * 64, "size": 3, "mediaType": "application/vnd.docker.container.image.v1+json"}


def test_each_reason_has_its_own_exit_code() -> None:
    codes = [reason.exit_code for reason in PullReason]
    assert len(set(codes)) == len(codes)
    assert all(20 <= code < 40 or code == 143 for code in codes)


def test_the_permanent_codes_are_those_of_the_permanent_reasons() -> None:
    assert PERMANENT_EXIT_CODES == (2, 20, 21, 22, 23, 24, 25, 26)
    assert not PullReason.INTERRUPTED.permanent
    assert not PullReason.DISK_FULL.permanent


def test_a_manifest_names_each_blob_once() -> None:
    raw = json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [BLOB, BLOB]}).encode()
    manifest = read_manifest(raw)
    assert [blob.digest for blob in manifest.blobs] == [BLOB["digest"], CONFIG["digest"]]
    assert manifest.total_bytes == 13
    assert manifest.digest == digest_of(raw)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("<html>", PullReason.REGISTRY_ERROR),
        ([], PullReason.NOT_A_MODEL),
        ({"manifests": []}, PullReason.NOT_A_MODEL),
        ({"config": CONFIG, "layers": []}, PullReason.NOT_A_MODEL),
        ({"config": CONFIG, "layers": [{**BLOB, "mediaType": "application/tar"}]}, PullReason.NOT_A_MODEL),
        ({"config": CONFIG, "layers": [{**BLOB, "digest": "sha256:../../x"}]}, PullReason.NOT_A_MODEL),
        ({"config": CONFIG, "layers": [{**BLOB, "size": -1}]}, PullReason.NOT_A_MODEL),
        ({"config": CONFIG, "layers": [BLOB, {**BLOB, "size": 11}]}, PullReason.NOT_A_MODEL),
    ],
)
def test_what_is_no_manifest_of_a_model_is_refused(document: object, reason: PullReason) -> None:
    raw = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    with pytest.raises(PullError) as caught:
        read_manifest(raw)
    assert caught.value.reason is reason


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_a_retry_waits_within_bounds(failures: int, chance: float, retry_after: float | None) -> None:
    policy = RetryPolicy()
    delay = policy.delay(failures, chance, retry_after)
    assert 0 <= delay <= 2 * policy.cap_seconds
    if retry_after is not None and retry_after <= policy.cap_seconds:
        assert delay >= retry_after


def test_speed_and_time_left_come_from_fetched_bytes_only() -> None:
    meter = Meter(now=0.0, total_bytes=1_000)
    meter.found(500)
    for second in range(1, 5):
        meter.fetched(100, float(second))
    told = meter.snapshot(4.0)
    assert (told.completed_bytes, told.bytes_per_second, told.eta_seconds) == (900, 100, 1)
    assert meter.fetched_bytes == 400


def test_speed_fades_while_nothing_arrives() -> None:
    meter = Meter(now=0.0, total_bytes=1_000_000)
    meter.fetched(1000, 1.0)
    assert meter.snapshot(31.0).bytes_per_second < 5
    assert Meter(now=0.0, total_bytes=10).snapshot(60.0).eta_seconds is None


def test_all_bytes_there_but_not_yet_hashed_is_verifying() -> None:
    meter = Meter(now=0.0, total_bytes=100)
    meter.fetched(100, 1.0)
    assert meter.snapshot(1.0).state == "Verifying"


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull"',
            Challenge("bearer", "https://auth.example/token", "reg", "repository:a/b:pull"),
        ),
        ('Basic realm="reg"', Challenge("basic", "reg")),
        ("", Challenge("")),
    ],
)
def test_challenges_are_read(header: str, challenge: Challenge) -> None:
    assert read_challenge(header) == challenge


def test_credentials_do_not_print_their_secrets() -> None:
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))


def test_an_outcome_fits_a_termination_message() -> None:
    meter = Meter(now=0.0, digest="sha256:" + "0" * 64)
    outcome = failed(PullError(PullReason.DISK_FULL, "x" * 10_000), meter.snapshot(0.0))
    assert len(encode_outcome(outcome)) < 4096
    assert decode_outcome(encode_outcome(outcome)) == outcome
    assert (outcome.exit_code, outcome.permanent) == (30, False)


def test_small_blobs_that_come_first_say_nothing_of_the_speed() -> None:
    meter = Meter(now=0.0, total_bytes=100_000_000)
    for second in range(1, 4):
        meter.fetched(500, float(second))
    assert (meter.snapshot(4.0).bytes_per_second, meter.snapshot(4.0).eta_seconds) == (0, None)
    for second in range(5, 8):
        meter.fetched(10_000_000, float(second))
    assert meter.snapshot(7.0).bytes_per_second > 9_000_000


def test_what_another_job_fetches_counts_as_speed_and_not_as_fetched() -> None:
    meter = Meter(now=0.0, total_bytes=100_000_000)
    meter.found(1_000)
    for second in range(1, 4):
        meter.elsewhere(10_000_000)
        told = meter.snapshot(float(second))
    assert told.bytes_per_second == 10_000_000
    assert (told.completed_bytes, told.eta_seconds, meter.fetched_bytes) == (30_001_000, 7, 0)
