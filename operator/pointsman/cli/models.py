"""`pointsman models`: the names that clients may ask for, who answers for them, and each backend's models; with
`--recommend`, which models of the catalogue would fit."""

from __future__ import annotations

from typing import Any

import click

from pointsman.api import meta
from pointsman.cli import recommending
from pointsman.cli.output import console, print_json, table
from pointsman.cli.place import Options, Place, options_with, run


@click.command(short_help="Lists model names and pulls; recommends models.")
@click.option("--recommend", is_flag=True, help="Chooses among the catalogue instead; needs no cluster.")
@recommending.flags
@options_with("yaml")
def models(opts: Options, recommend: bool, **wish: Any) -> None:
    """Lists the model names that clients may ask for, and the models of each backend.

    With --recommend: the models of the catalogue that fit, best first; with -o yaml the LLMBackend of the one that
    --pick names.
    """
    if recommend:
        recommending.show(opts, **wish)
        return
    recommending.refuse(opts, wish)
    found = run(opts, _read)
    if opts.as_json:
        print_json(found)
        return
    out = console()
    if not found["names"] and not found["models"]:
        out.print("No models here yet.")
        return
    out.print(table(("NAME", "ROUTE", "TARGETS"), [(n["name"], n["route"], n["targets"]) for n in found["names"]]))
    if found["models"]:
        out.print()
        rows = [(m["backend"], m["name"], m["state"], m["progress"], m["digest"][:19]) for m in found["models"]]
        out.print(table(("BACKEND", "MODEL", "STATE", "PROGRESS", "DIGEST"), rows))


async def _read(place: Place) -> dict[str, list[dict[str, str]]]:
    if place.connection is None:
        found = await place.admin_json("GET", "/v1/backends")
        return {
            "names": [
                _name(m, r["name"], r.get("targets") or ()) for r in found["routes"] for m in r.get("models") or ()
            ],
            "models": [],
        }
    routes = await place.list(meta.ROUTE_PLURAL)
    backends = await place.list(meta.BACKEND_PLURAL)
    return {
        "names": [_name(m, r["metadata"]["name"], _ordered(r)) for r in routes for m in r["spec"]["models"]],
        "models": [row for b in backends for row in _models(b)],
    }


def _ordered(route: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(route["spec"]["targets"], key=lambda t: int(t.get("priority", 0)))


def _name(name: str, route: str, targets: Any) -> dict[str, str]:
    return {"name": name, "route": route, "targets": " → ".join(f"{t['backend']}/{t['model']}" for t in targets)}


def _models(backend: dict[str, Any]) -> list[dict[str, str]]:
    status = {m["name"]: m for m in (backend.get("status") or {}).get("models") or ()}
    rows = []
    for model in backend["spec"]["models"]:
        s = status.get(model["name"], {})
        rows.append(
            {
                "backend": backend["metadata"]["name"],
                "name": model["name"],
                "state": s.get("state", "Pending"),
                "progress": s.get("progress") or s.get("message", ""),
                "digest": s.get("digest", ""),
            }
        )
    return rows
