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
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of it; repeatable.")
@click.option("--task-type", help="What it is for: code_generation, planning, …")
@click.option("--request-id", help="Its id: chance is drawn from it, so the order is exactly that request's.")
@click.option("--path", default="/v1/chat/completions", show_default=True, help="What it is sent to.")
@options
def explain(
    opts: Options,
    model: str | None,
    body_file: BinaryIO | None,
    headers: tuple[str, ...],
    task_type: str | None,
    request_id: str | None,
    path: str,
) -> None:
    """Tells where a request for MODEL would go now, and why. Exit code 1 when nobody could answer."""
    if body_file is not None:
        body = body_file.read()
    elif model:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    else:
        fail("give a MODEL, or a request body with --file", EXIT_USAGE)
    sent = dict(_header(text) for text in headers)
    if task_type:
        sent["x-pointsman-task-type"] = task_type
    if request_id:
        sent["x-request-id"] = request_id
    found: dict[str, Any] = run(
        opts, lambda place: place.admin_json("POST", "/v1/explain", body, headers=sent, params={"path": path})
    )
    if opts.as_json:
        print_json(found)
    else:
        _show(found)
    if not found["candidates"]:
        sys.exit(EXIT_NOT_READY)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        fail(f"{text!r} is no header: write 'name: value'", EXIT_USAGE)
    return name.strip(), value.strip()


def _show(found: dict[str, Any]) -> None:
    out = console()
    by = f" (as {found['name']})" if found["name"] != found["model"] else ""
    rule = f", rules[{found['rule']}]" if found["rule"] is not None else ""
    out.print(f"{found['model']}{by} is answered by route {found['route']}{rule}:", markup=False)
    if found["candidates"]:
        rows = [(str(i), c["backend"], c["model"], c["reason"]) for i, c in enumerate(found["candidates"], 1)]
        out.print(table(("#", "BACKEND", "MODEL", "WHY"), rows))
    else:
        out.print("[red]nobody could answer now[/red]")
    if found["waitsFor"]:
        wait = found["waitsFor"]
        names = " or ".join(wait["backends"])
        what = f"a free slot of {names}" if wait["for"] == "Slot" else f"{names} to get ready"
        out.print(
            f"First it would wait, {wait['atMostSeconds']:g} s at most, for {what} ({wait['waiting']} wait already).",
            markup=False,
        )
    if found["excluded"]:
        out.print()
        left_out = [(e["backend"], e["model"], e["reason"], e["message"]) for e in found["excluded"]]
        out.print(table(("LEFT OUT", "MODEL", "REASON", "WHY"), left_out))
    out.print()
    task = f", task {found['taskType']}" if found["taskType"] else ""
    needs = f", needs {', '.join(found['needs'])}" if found["needs"] else ""
    out.print(
        f"Strategy {found['strategy']}; about {found['promptTokens']} prompt tokens{task}{needs};"
        f" chance by request id {found['requestId']}",
        markup=False,
    )
