"""`pointsman models --recommend`: which models of the catalogue fit, why, and the LLMBackend of one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from decimal import InvalidOperation
from typing import Any, TypeVar

import click
import yaml

from pointsman.api.engine import Engine
from pointsman.api.scalars import amount
from pointsman.catalogue.catalogue import GIB, Task, catalogue
from pointsman.catalogue.recommend import Choice, Wish, recommend
from pointsman.cli.output import EXIT_NOT_READY, console, print_json, table
from pointsman.cli.place import Options

F = TypeVar("F", bound=Callable[..., Any])
CATEGORIES = ("small", "medium", "large")


def flags(function: F) -> F:
    """The flags of a wish."""
    for option in reversed(
        (
            click.option("--task", type=click.Choice([t.value for t in Task]), help="What for; chat if not given."),
            click.option("--gpu", metavar="SIZE", help="Memory of one GPU: 24Gi."),
            click.option("--gpus", type=click.IntRange(1, 64), help="GPUs of a pod; 1 if not given."),
            click.option("--memory", metavar="SIZE", help="Memory of a pod without GPUs: 16Gi."),
            click.option(
                "--context-length", metavar="TOKENS", help="Tokens of prompt and answer: 32k; 8k if not given."
            ),
            click.option("--engine", type=click.Choice([e.value for e in Engine if e.value not in _NOT_OURS])),
            click.option("--size", type=click.Choice(CATEGORIES), help="Below 5, below 20, more billion parameters."),
            click.option("--pick", metavar="MODEL", help="The one whose YAML -o yaml prints; the first if not given."),
        )
    ):
        function = option(function)
    return function


_NOT_OURS = ("Custom", "External")


def refuse(opts: Options, wish: Mapping[str, Any]) -> None:
    """Flags that mean nothing without --recommend."""
    given = [f"--{name.replace('_', '-')}" for name, value in wish.items() if value is not None]
    if opts.as_yaml:
        given.append("-o yaml")
    if given:
        raise click.UsageError(f"{', '.join(given)} needs --recommend")


def show(
    opts: Options,
    *,
    task: str | None,
    gpu: str | None,
    gpus: int | None,
    memory: str | None,
    context_length: str | None,
    engine: str | None,
    size: str | None,
    pick: str | None,
) -> None:
    """Prints the choices, or the YAML of one; exit code 1 when nothing fits."""
    if (gpu is None) == (memory is None) or (gpus is not None and gpu is None):
        raise click.UsageError("say how much memory there is: --gpu 24Gi (and --gpus), or --memory 16Gi without GPUs")
    wish = Wish(
        task=Task(task or "chat"),
        memory=_bytes(gpu or memory or ""),
        gpus=(gpus or 1) if gpu else 0,
        context=tokens(context_length or "8k"),
        engine=Engine(engine) if engine else None,
        category=size,
    )
    found = recommend(catalogue(), wish)
    if pick is not None:
        found = [c for c in found if c.entry.name == pick]
    if not found:
        what = f"{pick} does not fit, or is not in the catalogue" if pick else "no model of the catalogue fits"
        click.echo(f"pointsman: {what}: allow a shorter --context-length, more memory, or another --engine", err=True)
        sys.exit(EXIT_NOT_READY)
    if opts.as_yaml:
        click.echo(yaml.safe_dump(found[0].manifest, sort_keys=False), nl=False)
    elif opts.as_json:
        print_json([_row(c, wish) for c in found])
    else:
        headers = ("MODEL", "SIZE", "ENGINE", "NEEDS", "CONTEXT", "LICENCE", "WHY")
        out = console()
        out.print(table(headers, [tuple(_row(c, wish)[h.lower()] for h in headers) for c in found]))


def tokens(text: str) -> int:
    """`8192`, `32k` (of 1,024). Raises `click.UsageError`."""
    match = re.fullmatch(r"([0-9]{1,9})([kK]?)", text)
    if match is None or int(match[1]) == 0:
        raise click.UsageError(f"--context-length {text!r} is no number of tokens such as 8192 or 32k")
    return int(match[1]) * (1024 if match[2] else 1)


def _bytes(size: str) -> int:
    try:
        found = int(amount(size))
    except (ValueError, KeyError, InvalidOperation):
        found = 0
    if found < 1 << 20:
        raise click.UsageError(f"{size!r} is no size such as 24Gi")
    return found


def _row(choice: Choice, wish: Wish) -> dict[str, Any]:
    entry = choice.entry
    return {
        "model": entry.name,
        "size": entry.category,
        "engine": choice.source.engine.value,
        "needs": f"{choice.estimate.needs / GIB:.1f} GiB",
        "context": f"{choice.most}",
        "licence": entry.licence,
        "why": choice.why(wish.task),
        "source": choice.source.source,
    }
