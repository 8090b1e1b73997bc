"""`pointsman rm`: one model out of a store."""

from __future__ import annotations

from pathlib import Path

import click

from pointsman.cli.output import fail
from pointsman.cli.prune import clean
from pointsman.models.errors import PullError
from pointsman.models.garbage import Rubbish, Warehouse, named
from pointsman.models.reference import read_pin, read_source


@click.command(short_help="Removes a model out of a store.")
@click.argument("source")
@click.option("--store", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the store.")
@click.option("--digest", help="Only what was pulled with this pin, or of Ollama's models has this digest.")
@click.option("--yes", is_flag=True, help="Do it. Without: only say what would be done.")
def rm(source: str, store: Path, digest: str | None, yes: bool) -> None:
    """Remove the model of SOURCE, and the blobs that no other model needs. Without --yes nothing is removed.

    A backend that names the model fetches it again only when its pull Job is made anew.
    """
    try:
        goes = named(str(read_source(source)), read_pin(digest) or "")
    except PullError as error:
        raise click.UsageError(error.message) from None

    def find(warehouse: Warehouse) -> Rubbish:
        rubbish = warehouse.rubbish(goes)
        if not rubbish.models:
            there = ", ".join(dict.fromkeys(model.source for model in warehouse.models())) or "nothing"
            fail(f"{source} is not in {store}; there is: {there}", 1)
        return rubbish

    clean(store, find, yes=yes)
