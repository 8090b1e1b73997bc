"""The flags that say where to look for model servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pointsman.gateway.sources.discovery import Places

LOOPBACK = "127.0.0.1"
F = TypeVar("F", bound=Callable[..., Any])


def _hosts(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
            raise click.BadParameter(f"{host} is not a host name or an IPv4 address")
    return value


discover_host = click.option(
    "--discover-host",
    multiple=True,
    metavar="HOST",
    callback=_hosts,
    help=f"Discover on this host too, after {LOOPBACK}; may be given again.",
)
discover_port = click.option("--discover-port", multiple=True, type=click.IntRange(1, 65535), hidden=True)
_FLAG = click.option(
    "--discover",
    is_flag=True,
    help="Serve what runs on this machine: Ollama, LM Studio, llama.cpp and vLLM on their usual ports.",
)


def options(function: F) -> F:
    """Adds the three flags."""
    return reduce(lambda f, option: option(f), (discover_port, discover_host, _FLAG), function)


def places(discover: bool, hosts: Iterable[str], ports: Iterable[int], own: Iterable[int] = ()) -> Places | None:
    """What the flags amount to; None when nothing is to be looked for."""
    from pointsman.gateway.sources.discovery import Places  # after --help

    hosts, ports = tuple(hosts), tuple(ports)
    if not (discover or hosts):
        return None
    usual = Places()
    return Places(tuple(dict.fromkeys((*usual.hosts, *hosts))), ports or usual.ports, frozenset(own))
