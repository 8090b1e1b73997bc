"""The frame of an engine's container: what is the same whichever server runs in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pointsman.api.backend import LLMBackendSpec
from pointsman.engines.base import (
    CONTAINER_SECURITY,
    STORE_PATH,
    Driver,
    Manifest,
    environment,
    http_probes,
    mounts,
    resources,
    startup_seconds,
)


def server(
    driver: Driver,
    spec: LLMBackendSpec,
    image: str,
    *,
    health: str,
    env: Mapping[str, str],
    command: Sequence[str] = (),
    args: Sequence[str] = (),
    read_only: bool = True,
    store_at: str = STORE_PATH,
) -> Manifest:
    """`health`: the path that answers 200 when the server can take requests. `env`: ours, before the user's.
    `read_only`: the server never writes into the store, which is mounted at `store_at`. Without a command the image's
    own runs."""
    out: Manifest = {"name": "engine", "image": image}
    if command:
        out["command"] = list(command)
    if args:
        out["args"] = list(args)
    out |= {
        "env": environment(dict(env), spec),
        "ports": [{"name": "http", "containerPort": driver.port(spec), "protocol": "TCP"}],
        **http_probes(health, startup_seconds(driver, spec)),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts(driver, spec, read_only=read_only, at=store_at),
    }
    if wanted := resources(spec):
        out["resources"] = wanted
    return out
