"""`pointsman drill ROUTE`: rehearses the failover of a live route and reports what happened.

One gateway treats a backend as down for a bounded time (`gateway/drill.py`); meanwhile real requests are sent through
it, one a second at most. It ends by itself, also when this command is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from pointsman.cli.measuring import Measured, measure
from pointsman.cli.output import EXIT_NOT_READY, EXIT_USAGE, console, fail, milliseconds, print_json
from pointsman.cli.place import Options, Place, Unanswered, error_message, options, run

PAUSE_SECONDS = 1.0
MARGIN_SECONDS = 0.25
"""The gateway's drill ends a little before ours."""


@dataclass(frozen=True)
class Rehearsal:
    """What happened."""

    route: str
    model: str
    backend: str
    seconds: float
    concerned: tuple[str, ...]
    """All routes that the drill reached."""
    before: Measured
    during: tuple[Measured, ...]
    after: Measured

    @property
    def ok(self) -> bool:
        """Did the others answer everything, and is the backend back?"""
        return self.after.ok and bool(self.during) and all(m.ok and m.backend != self.backend for m in self.during)


@click.command(short_help="Rehearses a fallback on a live route.")
@click.argument("route")
@click.option("--backend", help="Which to treat as down; by default the one that answers now.")
@click.option("--seconds", type=click.IntRange(1, 120), default=10, show_default=True, help="How long.")
@click.option(
    "--report-token-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="POINTSMAN_REPORT_TOKEN_FILE",
    help="The gateway's report token; not needed on the gateway's own machine.",
)
@options
def drill(opts: Options, route: str, backend: str | None, seconds: int, report_token_file: Path | None) -> None:
    """Treats a backend of ROUTE as down for a while, asks the route's model meanwhile, and reports who answered. Needs
    --admin and --gateway. Exit code 1 when a request was not answered by another backend."""
    if not opts.admin or not opts.gateway:
        fail("give --admin and --gateway of one gateway (in a cluster: kubectl port-forward to its pod)", EXIT_USAGE)
    token = report_token_file.read_text().strip() if report_token_file else ""
    found = run(opts, lambda place: _rehearse(place, route, backend, float(seconds), token))
    if opts.as_json:
        print_json({**asdict(found), "ok": found.ok})
    else:
        _show(found)
    if not found.ok:
        sys.exit(EXIT_NOT_READY)


async def _rehearse(place: Place, route: str, backend: str | None, seconds: float, token: str) -> Rehearsal:
    shown = await place.admin_json("GET", "/v1/backends")
    models = next((r["models"] for r in shown["routes"] if r["name"] == route), None)
    if not models:
        names = ", ".join(r["name"] for r in shown["routes"]) or "none"
        raise Unanswered(f"there is no route {route} with a model name; the routes are: {names}")
    model = models[0]
    ask = partial(measure, place.chat, model, "Say hello.", 16)
    before = await ask()
    backend = backend or before.backend
    if not backend:
        raise Unanswered(f"nobody answers for {model} now: {before.error}")
    begun = await _order(place, token, route, backend, seconds)
    ends = time.monotonic() + seconds
    during = []
    try:
        while ends - time.monotonic() > MARGIN_SECONDS:  # one that is sent in time may well end later
            during.append(await ask())
            await asyncio.sleep(min(PAUSE_SECONDS, max(0.0, ends - time.monotonic())))
    finally:
        await _order(place, token, route, backend, 0)
    after = await ask()
    return Rehearsal(route, model, backend, seconds, tuple(begun["routes"]), before, tuple(during), after)


async def _order(place: Place, token: str, route: str, backend: str, seconds: float) -> Any:
    """Raises `Unanswered` when the gateway refuses."""
    url = (place.options.admin or "").rstrip("/") + "/v1/drill"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = {"route": route, "backend": backend, "seconds": seconds}
    async with place.session.post(url, json=asked, headers=headers) as answer:
        if answer.status >= 400:
            raise Unanswered(error_message(await answer.text()))
        return await answer.json()


def _show(r: Rehearsal) -> None:
    out = console()
    others = [name for name in r.concerned if name != r.route]
    also = f" (routes {', '.join(others)} too)" if others else ""
    out.print(f"drill of route {r.route}: {r.backend} was treated as down for {r.seconds:g} s{also}", markup=False)
    out.print(f"  before  {_one(r.before)}", markup=False)
    out.print(f"  during  {_many(r.during, r.backend)}", markup=False)
    out.print(f"  after   {_one(r.after)}", markup=False)
    good = "[green]the fallback works[/green]"
    out.print(good if r.ok else "[red]the fallback does not hold[/red]: see above")


def _one(m: Measured) -> str:
    if not m.ok:
        return f"no answer after {milliseconds(m.total_ms)}: {m.error}"
    return f"answered by {m.backend} in {milliseconds(m.total_ms)}"


def _many(measured: Sequence[Measured], backend: str) -> str:
    good = [m for m in measured if m.ok]
    by = ", ".join(f"{n} by {name}" for name, n in Counter(m.backend for m in good).most_common())
    text = f"{len(good)} of {len(measured)} requests answered: {by or 'none'}"
    if good:
        text += f"; slowest first token {milliseconds(max(m.first_token_ms or 0.0 for m in good))}"
    errors = dict.fromkeys(m.error for m in measured if not m.ok)
    return "; ".join((text, *errors))
