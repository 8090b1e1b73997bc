"""`pointsman gateway init`: a first file of manifests, of what runs on this machine or else as an example."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import click

from pointsman.cli import discover
from pointsman.cli.output import EXIT_USAGE, fail

FILE = "pointsman.yaml"
FOLDER = "pointsman"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
@discover.discover_host
@discover.discover_port
def init(directory: Path, discover_host: tuple[str, ...], discover_port: tuple[int, ...]) -> None:
    """Writes DIRECTORY/pointsman.yaml (DIRECTORY is `pointsman` by default): the servers that run on this machine and a
    route for each of their models, or an example. Never overwrites."""
    from pointsman.gateway.sources.discovery import Discovery, sentence  # after --help
    from pointsman.gateway.sources.first_manifests import EXAMPLE, text_of
    from pointsman.gateway.sources.manifests import EMPTY, manifest_files

    path = directory / FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if there := manifest_files(directory):
            fail(f"{there[0]} is there already: nothing is overwritten; choose another directory", EXIT_USAGE)
        places = discover.places(True, discover_host, discover_port)
        assert places is not None
        discovery = Discovery(places)
        asyncio.run(discovery.look())
        made = discovery.extend(EMPTY, EMPTY)
        with path.open("x", encoding="utf-8") as file:
            file.write(text_of(made) if made.routes else EXAMPLE)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", EXIT_USAGE)
    click.echo(sentence(discovery.findings, places))
    click.echo(f"wrote {path}{'' if made.routes else ', an example: put your own server and models in it'}")
    click.echo(f"next: pointsman gateway --manifests {shlex.quote(str(directory))}")
