"""`pointsman status`: each backend with state, latency and models, and why it is not ready; then the routes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from pointsman.api import meta
from pointsman.cli.output import EXIT_NOT_READY, ago, console, milliseconds, print_json, table
from pointsman.cli.place import Options, Place, options, run


@dataclass(frozen=True)
class BackendRow:
    name: str
    engine: str
    ready: str
    """True, False, Unknown or a dash (no cluster: readiness is the operator's word)."""
    health: str
    latency_ms: float | None
    models: str
    pods: str
    why: str


@dataclass(frozen=True)
class RouteRow:
    name: str
    models: Sequence[str]
    ready: str
    targets: Sequence[str]
    """In the order they are tried; a target that cannot serve says why in brackets."""
    last_fallback: str
    why: str


@click.command(short_help="Shows backends and routes, and what is wrong.")
@options
def status(opts: Options) -> None:
    """Shows backends and routes, and why something is not ready. Exit code 1 when something is not."""
    backends, routes = run(opts, _read)
    if opts.as_json:
        print_json({"backends": [asdict(b) for b in backends], "routes": [asdict(r) for r in routes]})
    else:
        _show(backends, routes)
    if any(r.ready == "False" for r in routes) or any(
        "False" in (b.ready,) or b.health == "Unhealthy" for b in backends
    ):
        sys.exit(EXIT_NOT_READY)


async def _read(place: Place) -> tuple[list[BackendRow], list[RouteRow]]:
    if place.connection is None:
        found = await place.admin_json("GET", "/v1/backends")
        return [_local_backend(b) for b in found["backends"]], [_local_route(r) for r in found["routes"]]
    return (
        [_backend(b) for b in await place.list(meta.BACKEND_PLURAL)],
        [_route(r) for r in await place.list(meta.ROUTE_PLURAL)],
    )


def _show(backends: Sequence[BackendRow], routes: Sequence[RouteRow]) -> None:
    out = console()
    if not backends and not routes:
        out.print("Nothing here yet: no LLMBackend and no ModelRoute.")
        return
    out.print(
        table(
            ("BACKEND", "ENGINE", "READY", "HEALTH", "LATENCY", "MODELS", "PODS", "WHY"),
            [
                (b.name, b.engine, b.ready, b.health, milliseconds(b.latency_ms), b.models, b.pods, b.why)
                for b in backends
            ],
        )
    )
    if routes:
        out.print()
        out.print(
            table(
                ("ROUTE", "MODELS", "READY", "TARGETS", "LAST FALLBACK", "WHY"),
                [(r.name, ", ".join(r.models), r.ready, " → ".join(r.targets), r.last_fallback, r.why) for r in routes],
            )
        )


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of that type; an Unknown one when it was never set."""
    for c in status.get("conditions") or ():
        if c.get("type") == kind:
            return dict(c)
    return {"status": "Unknown", "reason": "", "message": ""}


def _backend(body: Mapping[str, Any]) -> BackendRow:
    spec, status = body["spec"], body.get("status") or {}
    ready = condition(status, "Ready")
    health = status.get("health") or {}
    external = spec["engine"] == "External"
    return BackendRow(
        name=body["metadata"]["name"],
        engine=spec["engine"],
        ready=ready["status"],
        health=health.get("state") or "Unknown",
        latency_ms=health.get("latencyMs"),
        models=status.get("modelsSummary") or f"-/{len(spec['models'])}",
        pods="-" if external else f"{status.get('readyReplicas', 0)}/{_wanted(body)}",
        why=_why(ready) or _unhealthy(health),
    )


def _unhealthy(health: Mapping[str, Any]) -> str:
    return str(health.get("message") or "") if health.get("state") in ("Unhealthy", "Degraded") else ""


def _wanted(body: Mapping[str, Any]) -> int:
    """How many pods there should be."""
    scaled = (body.get("status") or {}).get("autoscaling") or {}
    return int(scaled.get("replicas", 0) if scaled else body["spec"].get("replicas", 1))


def _why(ready: Mapping[str, Any]) -> str:
    if ready["status"] == "True" or not ready.get("reason"):
        return ""
    return f"{ready['reason']}: {ready.get('message', '')}".rstrip(": ")


def _route(body: Mapping[str, Any]) -> RouteRow:
    spec, status = body["spec"], body.get("status") or {}
    ready = condition(status, "Ready")
    states = {(t["backend"], t["model"]): t for t in status.get("targets") or ()}
    targets = sorted(spec["targets"], key=lambda t: int(t.get("priority", 0)))
    return RouteRow(
        name=body["metadata"]["name"],
        models=spec["models"],
        ready=ready["status"],
        targets=[_target(t["backend"], states.get((t["backend"], t["model"]), {})) for t in targets],
        last_fallback=_fallback(status.get("lastFallback"), "fromBackend", "toBackend"),
        why=_why(ready),
    )


def _target(name: str, state: Mapping[str, Any]) -> str:
    value = state.get("state", "")
    return name if value in ("Ready", "", "Unknown") else f"{name} [{value}]"


def _fallback(last: Mapping[str, Any] | None, source: str, target: str) -> str:
    if not last:
        return "-"
    return f"{last[source]} → {last[target]}, {last['reason']}, {ago(last['at'])} ago"


def _local_backend(b: Mapping[str, Any]) -> BackendRow:
    models = b.get("models") or ()
    return BackendRow(
        name=b["name"],
        engine=b.get("engine", "External"),
        ready="-",
        health=b["state"],
        latency_ms=b.get("latency_ms"),
        models=str(len(models)) if models else "-",
        pods="-",
        why=b.get("message", "") if b["state"] not in ("Healthy", "Unknown") else "",
    )


def _local_route(r: Mapping[str, Any]) -> RouteRow:
    serving = bool(r.get("serving"))
    return RouteRow(
        name=r["name"],
        models=r.get("models") or (),
        ready="True" if serving else "False",
        targets=[_target(t["backend"], t) for t in r.get("targets") or ()],
        last_fallback=_fallback(r.get("last_fallback"), "from_backend", "to_backend"),
        why="" if serving else "no target can serve now",
    )
