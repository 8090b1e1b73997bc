"""What of the API server's objects routing sees."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from pointsman.api.objects import LLMBackend
from pointsman.domain.table import PodEndpoint
from pointsman.gateway.sources.cluster import tell_skipped
from pointsman.gateway.sources.resources import endpoints_of, gateways_of, secret_value

LABELS = {"pointsman.dev/backend": "local", "kubernetes.io/service-name": "pmb-local"}


def slice_of(*endpoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {
        "metadata": {"name": "s", "labels": LABELS},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 1}, {"name": "http", "port": 11434}],
        "endpoints": list(endpoints),
    }
    return {**body, **changes}


def pod(uid: str, address: str = "10.0.0.1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"uid": uid}}


def test_ready_pods_count_and_those_that_leave_do_not() -> None:
    found = endpoints_of(
        [
            slice_of(pod("a", ready=True), pod("b", ready=False), pod("c", ready=True, terminating=True), pod("d")),
            slice_of(pod("e", serving=True, ready=False, terminating=True)),
        ]
    )
    assert [p.uid for p in found["local"]] == ["a", "d"]
    assert found["local"][0] == PodEndpoint("a", "10.0.0.1", 11434)


def test_a_pod_in_two_slices_counts_once() -> None:
    six = slice_of(pod("a", "fd00::1"), addressType="IPv6")
    assert len(endpoints_of([slice_of(pod("a")), six])["local"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        slice_of(pod("a"), metadata={"name": "s", "labels": {**LABELS, "kubernetes.io/service-name": "other"}}),
        slice_of(pod("a"), metadata={"name": "s", "labels": {}}),
        slice_of(pod("a"), ports=[{"name": "other", "port": 1}]),
        slice_of(pod("a"), ports=None),
        slice_of(pod("a"), addressType="FQDN"),
        slice_of({"addresses": [], "conditions": {}}),
    ],
)
def test_other_slices_do_not_count(body: dict[str, Any]) -> None:
    assert endpoints_of([body]) == {}


def test_gateways_that_take_requests_share_the_limits() -> None:
    def gateway(name: str, **conditions: bool) -> dict[str, Any]:
        return {"addresses": ["10.0.0.9"], "conditions": conditions, "targetRef": {"kind": "Pod", "name": name}}

    slices = [
        slice_of(gateway("a", ready=True), gateway("b", ready=False), gateway("c", ready=True, terminating=True)),
        slice_of(gateway("a", ready=True), gateway("d", ready=True), {"addresses": ["10.0.0.8"]}),
    ]
    assert gateways_of(slices) == {"a", "d"}


def secret(version: str, kind: str = "Opaque", **data: bytes) -> dict[str, Any]:
    encoded = {k: base64.b64encode(v).decode() for k, v in data.items()}
    return {"metadata": {"name": "s", "resourceVersion": version}, "type": kind, "data": encoded}


def test_a_secret_has_a_new_version_only_with_new_values() -> None:
    first = secret_value(secret("1", k=b"x"), None)
    assert (first.version, first.data) == ("1", {"k": "x"})
    assert secret_value(secret("2", k=b"x"), first) is first
    assert secret_value(secret("3", k=b"y"), first).version == "3"


def test_bytes_are_no_text_and_service_account_tokens_no_keys() -> None:
    assert secret_value(secret("1", k=b"x", raw=b"\xff\xfe"), None).data == {"k": "x"}
    assert secret_value(secret("1", "kubernetes.io/service-account-token", token=b"t"), None).data == {}


def test_what_cannot_be_read_is_skipped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValidationError) as raised:
        LLMBackend.parse({"metadata": {"name": "bad"}, "spec": {"engine": "Quantum", "models": [{"name": "m"}]}})
    tell_skipped("LLMBackend", "bad", raised.value)
    assert "LLMBackend bad is skipped, it cannot be read: spec.engine" in caplog.text
