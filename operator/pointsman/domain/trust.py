"""Whose certificates are believed for an External backend, which it is shown, and the sentence for a failure. Pure.

Decided here: what of a ConfigMap or Secret counts as a bundle, and what a failed verification is called. Not here: TLS
itself (`gateway/upstream/trust.py`).

A bundle stands in place of the system's authorities, it is not added to them: a name that a public authority vouches
for is not believed where an own one was asked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pointsman.api.references import CaBundleRef

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----")
_DER_SEQUENCE = 0x30


@dataclass(frozen=True)
class Trust:
    """The authorities of one backend. `version` changes exactly when they do."""

    version: str
    pem: str = field(repr=False, compare=False)
    """The certificates, each a PEM block."""


@dataclass(frozen=True)
class ClientCertificate:
    """What a gateway shows a server that wants to know it. `version` changes exactly when it does."""

    secret: str
    """Name of the Secret."""
    version: str
    certificate: str = field(repr=False, compare=False)
    key: str = field(repr=False, compare=False)
    """Both in PEM."""


def read_client_certificate(secret: str, data: Mapping[str, str] | None) -> ClientCertificate | str:
    """The certificate in a Secret, or what is wrong with it in a sentence. `data` is the Secret's; None without one."""
    if data is None:
        return f"Secret {secret} does not exist: create it with `kubectl create secret tls`"
    certificate, key = data.get("tls.crt", ""), data.get("tls.key", "")
    if not certificates(certificate):
        return f"Secret {secret} has no certificate in PEM under the key tls.crt"
    if not key.strip():
        return f"Secret {secret} has no value under the key tls.key"
    digest = hashlib.sha256(f"{certificate}\n{key}".encode()).hexdigest()
    return ClientCertificate(secret, digest[:16], certificate, key)


def certificates(text: str) -> str:
    """The certificates in `text`, without what stands between them (comments, keys); empty when there are none."""
    return "".join(_blocks(text))


def read_bundle(ref: CaBundleRef, data: Mapping[str, str] | None) -> Trust | str:
    """The bundle that `ref` names, or what is wrong with it in a sentence. `data` is the object's; None without one."""
    what = f"{ref.kind.value} {ref.name}"
    if data is None:
        return f"{what} does not exist: create it with the CA's certificate in PEM under {ref.key}"
    if ref.key not in data:
        has = ", ".join(sorted(data)[:8]) or "none"
        return f"{what} has no key {ref.key} (its keys: {has}): put the CA's certificate there, or name its key"
    trust = _trust(data[ref.key])
    return trust if trust is not None else f"{what} has no certificate in PEM under the key {ref.key}"


@lru_cache(maxsize=64)
def _trust(text: str) -> Trust | None:
    """Kept, for a table is compiled at every change of anything, and a bundle can have a hundred certificates."""
    pem = certificates(text)
    return Trust(hashlib.sha256(pem.encode()).hexdigest()[:16], pem) if pem else None


def _blocks(text: str) -> Iterator[str]:
    for found in _BLOCK.finditer(text):
        body = "".join(found[1].split())
        try:
            der = base64.b64decode(body, validate=True)
        except binascii.Error:
            continue
        if der and der[0] == _DER_SEQUENCE:
            lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
            yield f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


_SENTENCES: Mapping[int, str] = {
    9: "its certificate is not valid yet: check the clocks of both sides",
    10: "its certificate has expired",
    18: "its certificate is self-signed and not trusted: give it in external.caBundleRef",
    19: "its certificate is signed by an authority that is not trusted: give the CA's certificate in"
    " external.caBundleRef",
    20: "its certificate is signed by an authority that is not trusted: give the CA's certificate in"
    " external.caBundleRef",
    21: "its certificate is signed by an authority that is not trusted: give the CA's certificate in"
    " external.caBundleRef",
    23: "its certificate has been revoked",
    62: "its certificate is for another host name than the one in external.url",
    64: "its certificate is for another address than the one in external.url",
}
"""By the verification's result (OpenSSL, x509_vfy.h)."""
_OTHER_AUTHORITY = "its certificate is signed by another authority than those of external.caBundleRef"
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))


def untrusted(code: int, message: str, *, own_bundle: bool) -> str:
    """The sentence for a certificate that failed its verification: OpenSSL's result and its words for it."""
    if own_bundle and code in _UNKNOWN_AUTHORITY:
        return _OTHER_AUTHORITY
    return _SENTENCES.get(code) or f"its certificate is not trusted: {message or 'it is not valid for this host'}"
