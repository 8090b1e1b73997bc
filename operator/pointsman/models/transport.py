"""What failures of a connection mean, and how the HTTP client is made.

Decided here: timeouts, trust, and the translation of transport errors into reasons. Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`); an own CA comes by `SSL_CERT_FILE`, which then replaces the built-in list.
"""

from __future__ import annotations

import os
import ssl

import httpcore
import httpx

from pointsman import __version__
from pointsman.models.errors import PullError, PullReason

CONNECT_SECONDS = 10.0
httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = 512 << 10
"""Bytes that are read at once: with httpcore's own 64 KiB a pull takes a third more of the processor."""
STALL_SECONDS = 30.0
"""Without a byte for this long, a request counts as failed."""


def make_trust(authorities: str = "") -> ssl.SSLContext:
    """Whom to trust: the usual authorities, and those of a PEM text. Raises `PullError` (BadConfiguration)."""
    try:
        context = httpx.create_ssl_context()
    except (OSError, ssl.SSLError):
        path = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise PullError(
            PullReason.BAD_CONFIGURATION, f"Cannot read CA certificates from {path}, named by SSL_CERT_FILE."
        ) from None
    if authorities:
        try:
            context.load_verify_locations(cadata=authorities)
        except ssl.SSLError:
            raise PullError(
                PullReason.BAD_CONFIGURATION, "The key ca.crt of the Secret holds no certificates in PEM; correct it."
            ) from None
    return context


def make_client(
    parallel: int, trust: ssl.SSLContext | None = None, stall_seconds: float = STALL_SECONDS
) -> httpx.AsyncClient:
    """A client for `parallel` requests at once. Raises `PullError` (BadConfiguration) as `make_trust` does."""
    return httpx.AsyncClient(
        verify=trust or make_trust(),
        timeout=httpx.Timeout(stall_seconds, connect=CONNECT_SECONDS, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=parallel),
        headers={"User-Agent": f"pointsman/{__version__}", "Accept-Encoding": "identity"},
        follow_redirects=False,
    )


def failure(error: httpx.TransportError, host: str) -> PullError:
    """Why this host could not be spoken to. `host` is shown; the URL is not, it may hold a signature."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return PullError(
            PullReason.UNTRUSTED_CERTIFICATE,
            f"The certificate of {host} is not trusted; give the CA that signed it in SSL_CERT_FILE or as"
            " ca.crt in the model's Secret.",
        )
    if "SSL" in text:
        return PullError(
            PullReason.UNTRUSTED_CERTIFICATE,
            f"{host} does not speak TLS as expected; plain text must be asked for, as ollama+http:// does.",
        )
    if isinstance(error, httpx.ConnectTimeout):
        why = f"no connection within {CONNECT_SECONDS:g} s"
    elif isinstance(error, httpx.TimeoutException):
        why = "it sent nothing for too long"
    elif isinstance(error, httpx.ConnectError):
        why = _connect_reason(text)
    elif isinstance(error, httpx.ProxyError):
        why = "the proxy refused"
    else:
        why = "the connection broke"
    return PullError(
        PullReason.REGISTRY_UNREACHABLE,
        f"Cannot reach {host}: {why}; check the host, network policies and the proxy settings.",
    )


def _connect_reason(text: str) -> str:
    lowered = text.lower()
    if "name or service" in lowered or "name resolution" in lowered or "no address" in lowered:
        return "its name is not known"
    if "refused" in lowered or "all connection attempts failed" in lowered:
        return "the connection was refused"
    return "no connection"
