"""`pointsman conform`: every fault of a backend, injected for real, against any gateway with two backends behind it.

It is the two backends itself. What a fault is and what is right stand in `pointsman.conform`; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from pointsman.cli.output import EXIT_NOT_READY, EXIT_UNREACHABLE, EXIT_USAGE, console, fail, table

if TYPE_CHECKING:
    from pointsman.conform.result import Report, Result
    from pointsman.conform.scenario import Scenario


class Address(click.ParamType[tuple[str, int]]):
    """`HOST:PORT`."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value} is not HOST:PORT", param, ctx)
        return host.strip("[]"), int(port)


class Header(click.ParamType[tuple[str, str]]):
    """`NAME:VALUE`."""

    name = "header"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, colon, content = str(value).partition(":")
        if not colon or not name.strip() or not str(value).isprintable():
            self.fail(f"{value!r} is not NAME:VALUE", param, ctx)
        return name.strip(), content.strip()


@dataclass(frozen=True)
class Options:
    gateway: str
    models: tuple[str, ...]
    listen: tuple[tuple[str, int], tuple[str, int]]
    timeout: float
    recovery: float
    key: str | None
    headers: dict[str, str]
    title: str
    prompt: float = 2.0


@click.command(short_help="Tests the fallback of any gateway.")
@click.option("--gateway", metavar="URL", help="Base URL of the gateway, such as http://127.0.0.1:8080.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Name that the gateway serves from the two backends; several names spare the waits between scenarios.",
)
@click.option("--listen-a", type=Address(), default="127.0.0.1:9101", show_default=True, help="The first choice.")
@click.option("--listen-b", type=Address(), default="127.0.0.1:9102", show_default=True, help="The fallback.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Scenarios of this name only, such as '*stream*'.")
@click.option(
    "--option",
    type=click.Choice(("hedge", "hold")),
    help="Instead of faults: what a gateway does when it is told to. Its models must be configured so: hedge asks a"
    " second backend beside one that is slow to begin, hold waits for a first choice that loads.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="When the gateway gives up on a silent backend, as it is configured; 0 when it never does.",
)
@click.option(
    "--recovery",
    type=click.FloatRange(min=0.1),
    default=90.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the gateway may take to use a backend again that is good again.",
)
@click.option(
    "--prompt",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take where no backend is silent: more for a gateway far away or a busy machine.",
)
@click.option("--key-env", metavar="NAME", help="Environment variable with the API key that the gateway wants.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    type=Header(),
    metavar="NAME:VALUE",
    help="Sent with each request, for a gateway that is configured by it; may be given again.",
)
@click.option("--title", default="", metavar="TEXT", help="What is tested, for reports: name and version.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a report.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML.")
@click.option("--list", "just_list", is_flag=True, help="Print the scenarios and what is right, and end.")
def conform(
    gateway: str | None,
    models: tuple[str, ...],
    listen_a: tuple[str, int],
    listen_b: tuple[str, int],
    only: tuple[str, ...],
    option: str | None,
    timeout: float,
    recovery: float,
    prompt: float,
    key_env: str | None,
    headers: tuple[tuple[str, str], ...],
    title: str,
    markdown_file: Path | None,
    junit_file: Path | None,
    just_list: bool,
) -> None:
    """Tests whether the fallback of a gateway, any that speaks OpenAI's API, fires when it must and only then.

    Configure the gateway with two OpenAI-compatible backends, http://LISTEN_A/v1 as first choice for the model and
    http://LISTEN_B/v1 as its fallback, each tried at most twice; this command is both of them. Exit code 1 when a
    scenario failed, 3 when the gateway does not serve at all.
    """
    from pointsman.conform.catalogue import chosen

    scenarios = chosen(only, option)
    if not scenarios:
        fail(f"no scenario matches {', '.join(only)}; --list prints them", EXIT_USAGE)
    if just_list:
        console().print(table(("SCENARIO", "RIGHT IS", "WHY"), [(s.slug, s.right.value, s.why) for s in scenarios]))
        return
    if gateway is None or not models:
        fail("give the gateway's URL with --gateway and a model name with --model", EXIT_USAGE)
    if not gateway.startswith(("http://", "https://")):
        fail(f"--gateway {gateway}: give the base URL with http:// or https://", EXIT_USAGE)
    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        fail(f"--key-env: the environment has no {key_env}", EXIT_USAGE)
    options = Options(
        gateway, models, (listen_a, listen_b), timeout, recovery, key, dict(headers), title or gateway, prompt
    )  # fmt: skip
    report = asyncio.run(run(options, scenarios))
    if markdown_file is not None:
        from pointsman.conform.markdown import markdown

        markdown_file.write_text(markdown(report))
    if junit_file is not None:
        from pointsman.conform.junit import junit

        junit_file.write_text(junit(report))
    out = console()
    out.print()
    out.print(escape(f"{report.title}: {report.summary}"))
    if not all(r.good for r in report.results):
        sys.exit(EXIT_NOT_READY)


async def run(options: Options, scenarios: Sequence[Scenario]) -> Report:
    """Starts the two backends, runs the scenarios and prints each result as it comes."""
    from pointsman.conform.backends import Backends
    from pointsman.conform.client import Client
    from pointsman.conform.result import Report
    from pointsman.conform.runner import NotServing, Runner

    backends = Backends(options.models, options.timeout or 2.0)
    for backend, (host, port) in zip((backends.first, backends.second), options.listen, strict=True):
        try:
            await backend.start(host, port)
        except OSError as error:
            fail(f"cannot listen on {host}:{port}: {error.strerror or error}", EXIT_UNREACHABLE)
    results: list[Result] = []
    width = max(len(s.name) for s in scenarios)
    try:
        async with Client(options.gateway, options.key, 4 * options.timeout + 30, options.headers) as client:
            runner = Runner(client, backends, options.models, options.timeout, options.recovery, options.prompt)
            await runner.greet()
            async for result in runner.run(scenarios):
                results.append(result)
                _show(result, width)
    except NotServing as error:
        a, b = (f"{b.host}:{b.port}" for b in (backends.first, backends.second))
        fail(
            f"{error}; configure the gateway with http://{a}/v1 as first choice and http://{b}/v1 as fallback",
            EXIT_UNREACHABLE,
        )
    finally:
        await backends.first.refuse()
        await backends.second.refuse()
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Report(options.title, when, options.timeout, tuple(results))


def _show(result: Result, width: int) -> None:
    """One line, as soon as it is known."""
    from pointsman.conform.result import Outcome

    style = {Outcome.PASS: "green", Outcome.NOT_APPLICABLE: "dim"}.get(result.outcome, "red")
    name = escape(f"{result.scenario.name:{width}}")
    took = f"{result.ms:6.0f} ms  {result.first}+{result.second}" if result.ms else " " * 14
    console().print(f"[{style}]{result.outcome.value:13}[/{style}]  {name}  {took}  {escape(result.saw)}")
