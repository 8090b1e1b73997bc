"""TLS towards backends: contexts by whom a backend trusts, and the name of what failed.

Decided here: how strictly certificates are checked. Not here: what a bundle is and what its failures are called
(`domain/trust.py`), who dials (`dialer.py`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pointsman.domain.trust import Trust, untrusted

KEPT_CONTEXTS = 256
"""Of own bundles; a context takes about a millisecond to make."""


BAD_BUNDLE = "the bundle of external.caBundleRef holds something that is no certificate"


def default_tls() -> ssl.SSLContext:
    """Verifies certificates and names, by the system's roots (or SSL_CERT_FILE)."""
    return _ours(ssl.create_default_context())


class TlsContexts:
    """The context of each backend, made when it is first wanted."""

    def __init__(self, system: Callable[[], ssl.SSLContext] = default_tls) -> None:
        self._make_system = system
        self._system: ssl.SSLContext | None = None
        self._own: dict[str, ssl.SSLContext] = {}

    def of(self, trust: Trust | None) -> ssl.SSLContext:
        """Raises `ssl.SSLError` for a bundle with something that is no certificate."""
        if trust is None:
            if self._system is None:
                self._system = self._make_system()
            return self._system
        context = self._own.get(trust.version)
        if context is None:
            context = own_tls(trust)
            while len(self._own) >= KEPT_CONTEXTS:
                del self._own[next(iter(self._own))]
            self._own[trust.version] = context
        return context


def own_tls(trust: Trust) -> ssl.SSLContext:
    """Verifies by these authorities alone. Raises `ssl.SSLError`.

    As curl does with a bundle: a certificate in it is believed whether or not it is a root, and private authorities
    that leave out what newer profiles want (key usage, key identifiers) are still authorities.
    """
    context = ssl.create_default_context(cadata=trust.pem)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return _ours(context)


def explain_tls(error: ssl.SSLError | ssl.CertificateError, *, own_bundle: bool) -> str:
    """A sentence about the backend, without its name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(error.verify_code, error.verify_message, own_bundle=own_bundle)
    reason = (getattr(error, "reason", "") or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return "it does not speak TLS: does its url begin with http?"
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and "ALERT" in reason):
        return "it refuses the TLS handshake: it may want a client certificate, or a cipher that we lack"
    return f"TLS failed: {reason.replace('_', ' ').lower() or 'the handshake was broken off'}"


def _ours(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
