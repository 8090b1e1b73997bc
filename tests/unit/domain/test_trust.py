"""What counts as a CA bundle, and what a failed verification is called."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.objects import LLMBackend
from pointsman.api.references import CaBundleRef
from pointsman.domain.compiling import compile_table
from pointsman.domain.references import References, references
from pointsman.domain.table import SecretValue
from pointsman.domain.trust import Trust, certificates, read_bundle, untrusted


def block(content: bytes) -> str:
    body = base64.encodebytes(b"\x30" + content).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


REF = CaBundleRef(name="corp-ca")


def bundle(text: str) -> Trust:
    found = read_bundle(REF, {"ca.crt": text})
    assert isinstance(found, Trust)
    return found


def test_only_the_certificates_count() -> None:
    plain = bundle(block(b"one") + block(b"two"))
    key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
    assert bundle(f"# ours\r\n{block(b'one')}\n\n{key}{block(b'two')}bye") == plain
    assert "PRIVATE" not in bundle(block(b"one") + key).pem
    assert bundle(block(b"two") + block(b"one")).version != plain.version
    assert bundle(block(b"one")).version != plain.version
    assert "MII" not in repr(plain)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "ConfigMap corp-ca does not exist: create it with the CA's certificate in PEM under ca.crt"),
        ({}, "ConfigMap corp-ca has no key ca.crt (its keys: none): put the CA's certificate there, or name its key"),
        ({"b": "", "a": ""}, "ConfigMap corp-ca has no key ca.crt (its keys: a, b): put the CA's certificate there, or"
         " name its key"),
        ({"ca.crt": "hello"}, "ConfigMap corp-ca has no certificate in PEM under the key ca.crt"),
        ({"ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
         "ConfigMap corp-ca has no certificate in PEM under the key ca.crt"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_bundle_is_said(data: dict[str, str] | None, sentence: str) -> None:
    assert read_bundle(REF, data) == sentence


@given(st.text())
def test_no_text_can_raise(text: str) -> None:
    certificates(text)


def test_an_unknown_result_keeps_the_librarys_words() -> None:
    assert untrusted(99, "some new check", own_bundle=True) == "its certificate is not trusted: some new check"
    assert untrusted(10, "", own_bundle=True) == "its certificate has expired"


def backend(**external: Any) -> LLMBackend:
    spec = {"engine": "External", "models": [{"name": "m"}], "external": {"url": "https://a.example/v1", **external}}
    return LLMBackend.parse({"metadata": {"name": "b"}, "spec": spec})


def test_a_bundle_may_be_in_a_secret_or_a_config_map_and_is_named_as_such() -> None:
    named = [
        backend(caBundleRef={"name": "one"}), backend(caBundleRef={"kind": "Secret", "name": "two"}),
        backend(secretRef={"name": "key"}),
    ]  # fmt: skip
    assert references(named) == References(frozenset(("two", "key")), frozenset(("one",)))
    held = {"two": SecretValue("1", {"ca.crt": block(b"x")})}
    assert compile_table([named[1]], [], {}, held).backends["b"].trust is not None
    other_kind = compile_table([named[1]], [], {}, {}, config_maps=held).backends["b"]
    assert (other_kind.trust, other_kind.endpoints) == (None, ())
    assert other_kind.unreachable.startswith("Secret two does not exist")
