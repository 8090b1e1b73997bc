"""Which proxy leads to a host? The environment's variables, read as curl reads them. Pure: the environment comes in.

    http_proxy, HTTP_PROXY      for http URLs
    https_proxy, HTTPS_PROXY    for https URLs
    all_proxy, ALL_PROXY        for both, where the one above is not set
    no_proxy, NO_PROXY          hosts that are reached directly

The lower-case name goes first. Loopback addresses and `localhost` are always reached directly. An entry of no_proxy is
`*`, a name (it stands for its subdomains too, with or without a dot before it), an address, or a network such as
10.0.0.0/8; with `:port` it is about that port alone.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_DEFAULT_PORT = 80


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """For `Proxy-Authorization`; empty without credentials."""
    problem: str = ""
    """Why it cannot be used, as a sentence about the backend behind it; empty when it can."""


@dataclass(frozen=True)
class _Bypass:
    """One entry of no_proxy."""

    name: str = ""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    port: int | None = None

    def covers(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address.version == self.network.version and address in self.network
        return self.name == "*" or host == self.name or host.endswith(f".{self.name}")


@dataclass(frozen=True)
class Proxies:
    """What the environment says."""

    http: Proxy | None = None
    https: Proxy | None = None
    bypass: tuple[_Bypass, ...] = ()

    def of(self, host: str, port: int, *, tls: bool) -> Proxy | None:
        """None: it is reached directly."""
        proxy = self.https if tls else self.http
        if proxy is None:
            return None
        host = host.lower().rstrip(".")
        address = _address(host)
        if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
            return None
        return None if any(entry.covers(host, address, port) for entry in self.bypass) else proxy


NO_PROXIES = Proxies()


def read_proxies(environ: Mapping[str, str]) -> Proxies:
    """Never raises: a value that makes no sense becomes a proxy with a `problem`."""

    def value(name: str) -> str:
        return (environ.get(name) or environ.get(name.upper()) or "").strip()

    return Proxies(
        _proxy(value("http_proxy") or value("all_proxy")),
        _proxy(value("https_proxy") or value("all_proxy")),
        tuple(entry for text in value("no_proxy").split(",") if (entry := _bypass(text.strip())) is not None),
    )


def _proxy(text: str) -> Proxy | None:
    if not text:
        return None
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname or "", url.port or _DEFAULT_PORT
    except ValueError:
        return Proxy("", 0, problem="the proxy of the environment is no URL")
    if url.scheme != "http":
        return Proxy(
            "", 0, problem=f"the environment names a proxy with {url.scheme}://; only http:// proxies are supported"
        )
    if not host:
        return Proxy("", 0, problem="the proxy of the environment has no host")
    authorization = ""
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(host, port, authorization)


def _bypass(text: str) -> _Bypass | None:
    text = text.lower()
    if not text:
        return None
    try:
        return _Bypass(network=ipaddress.ip_network(text.strip("[]"), strict=False))
    except ValueError:
        pass
    host, colon, last = text.rpartition(":")
    port = int(last) if colon and last.isascii() and last.isdigit() else None
    name = (host if port is not None else text).strip("[]")
    try:
        return _Bypass(network=ipaddress.ip_network(name, strict=False), port=port)
    except ValueError:
        name = name.removeprefix("*").lstrip(".") if name != "*" else name
        return _Bypass(name=name.rstrip("."), port=port) if name else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
