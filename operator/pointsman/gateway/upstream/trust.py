"""TLS towards backends: contexts by whom a backend trusts, and the name of what failed.

Decided here: how strictly certificates are checked. Not here: what a bundle is and what its failures are called
(`domain/trust.py`), who dials (`dialer.py`).
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pointsman.domain.trust import ClientCertificate, Trust, untrusted

KEPT_CONTEXTS = 256
"""Of own bundles; a context takes about a millisecond to make."""


_UNKNOWN_CLIENT = ("CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA")
"""Alerts of a server that does not know us: TLS 1.3 has one of its own, TLS 1.2 several."""


def default_tls() -> ssl.SSLContext:
    """Verifies certificates and names, by the system's roots (or SSL_CERT_FILE)."""
    return _ours(ssl.create_default_context())


class TlsContexts:
    """The context of each backend, made when it is first wanted."""

    def __init__(self, system: Callable[[], ssl.SSLContext] = default_tls) -> None:
        self._make_system = system
        self._system: ssl.SSLContext | None = None
        self._own: dict[tuple[str, str], ssl.SSLContext] = {}

    def of(self, trust: Trust | None, shown: ClientCertificate | None = None) -> ssl.SSLContext:
        """Raises `BadTls`."""
        if trust is None and shown is None:
            if self._system is None:
                self._system = self._make_system()
            return self._system
        key = (trust.version if trust else "", shown.version if shown else "")
        context = self._own.get(key)
        if context is None:
            context = own_tls(trust) if trust else self._make_system()
            if shown is not None:
                _show(context, shown)
            while len(self._own) >= KEPT_CONTEXTS:
                del self._own[next(iter(self._own))]
            self._own[key] = context
        return context


class BadTls(Exception):
    """What a backend names for TLS cannot be used. The text is a sentence."""


def own_tls(trust: Trust) -> ssl.SSLContext:
    """Verifies by these authorities alone. Raises `BadTls`.

    As curl does with a bundle: a certificate in it is believed whether or not it is a root, and private authorities
    that leave out what newer profiles want (key usage, key identifiers) are still authorities.
    """
    try:
        context = ssl.create_default_context(cadata=trust.pem)
    except ssl.SSLError:
        raise BadTls("the bundle of external.caBundleRef holds something that is no certificate") from None
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return _ours(context)


def _show(context: ssl.SSLContext, shown: ClientCertificate) -> None:
    try:
        # ssl reads files only. This one has no name and never reaches a disk, or is gone as soon as it is read.
        with _unnamed(f"{shown.certificate}\n{shown.key}\n".encode()) as path:
            context.load_cert_chain(path, password="")
    except (ssl.SSLError, OSError, ValueError):
        raise BadTls(
            "the Secret of external.clientCertificateRef holds no certificate and key that belong together"
        ) from None


@contextmanager
def _unnamed(data: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(data)
        named.flush()
        yield named.name


def explain_tls(error: ssl.SSLError | ssl.CertificateError, *, own_bundle: bool) -> str:
    """A sentence about the backend, without its name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(error.verify_code, error.verify_message, own_bundle=own_bundle)
    reason = (getattr(error, "reason", "") or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return "it does not speak TLS: does its url begin with http?"
    if any(alert in reason for alert in _UNKNOWN_CLIENT):
        return "it refuses TLS without a client certificate that it knows: see external.clientCertificateRef"
    return f"TLS failed: {reason.replace('_', ' ').lower() or 'the handshake was broken off'}"


def _ours(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
