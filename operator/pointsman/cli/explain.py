"""`pointsman explain MODEL`: the candidates for a request, in order, with the reason for each place and exclusion.

The gateway answers it with the very function that orders real requests; nothing is decided here.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

import click

from pointsman.cli.output import EXIT_NOT_READY, EXIT_USAGE, console, fail, print_json, table
from pointsman.cli.place import Options, options, run


@click.command(short_help="Tells where a request would go, and why.")
@click.argument("model", required=False)
@click.option("-f", "--file", "body_file", type=click.File("rb"), help="A request body as JSON; - for standard input.")
@options
def explain(opts: Options, model: str | None, body_file: BinaryIO | None) -> None:
    """Tells where a request for MODEL would go now, and why. Exit code 1 when nobody could answer."""
    if body_file is not None:
        body = body_file.read()
    elif model:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    else:
        fail("give a MODEL, or a request body with --file", EXIT_USAGE)
    found: dict[str, Any] = run(opts, lambda place: place.admin_json("POST", "/v1/explain", body))
    if opts.as_json:
        print_json(found)
    else:
        _show(found)
    if not found["candidates"]:
        sys.exit(EXIT_NOT_READY)


def _show(found: dict[str, Any]) -> None:
    out = console()
    out.print(f"{found['model']} is answered by route {found['route']}:", markup=False)
    if found["candidates"]:
        rows = [(str(i), c["backend"], c["model"], c["reason"]) for i, c in enumerate(found["candidates"], 1)]
        out.print(table(("#", "BACKEND", "MODEL", "WHY"), rows))
    else:
        out.print("[red]nobody could answer now[/red]")
    if found["excluded"]:
        out.print()
        left_out = [(e["backend"], e["model"], e["reason"], e["message"]) for e in found["excluded"]]
        out.print(table(("LEFT OUT", "MODEL", "REASON", "WHY"), left_out))
