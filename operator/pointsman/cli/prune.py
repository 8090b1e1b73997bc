"""`pointsman prune`: what no model needs any more out of a store. What that is: `models/garbage.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from pointsman.cli.output import fail
from pointsman.models.errors import PullError
from pointsman.models.garbage import GRACE_SECONDS, Rubbish, StoredModel, Warehouse, unneeded
from pointsman.models.occupancy import cleaning
from pointsman.models.reference import read_pin, read_source
from pointsman.models.volume import store_failure


@click.command(short_help="Removes what no model needs out of a store.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the store.")
@click.option(
    "--keep",
    multiple=True,
    metavar="SOURCE[@DIGEST]",
    help="A model that stays, with its pin if it has one; may be given again. With it, all others go.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_SECONDS / 3600,
    show_default=True,
    help="Hours for which what a pull left half is kept, so that the next one can go on.",
)
@click.option("--yes", is_flag=True, help="Do it. Without: only say what would be done.")
def prune(store: Path, keep: tuple[str, ...], grace: float, yes: bool) -> None:
    """Remove what no model needs any more: contents of old revisions, blobs, what pulls left half.

    With --keep, models that are not named go too. Only what pulls brought is touched. Without --yes nothing is.
    """
    goes: Callable[[StoredModel], bool] = lambda _: False  # noqa: E731
    if keep:
        goes = unneeded([_kept(text) for text in keep])
    clean(store, lambda warehouse: warehouse.rubbish(goes, grace=grace * 3600), yes=yes)


def _kept(text: str) -> tuple[str, str]:
    source, at, digest = text.rpartition("@sha256:")
    try:
        return (str(read_source(source)), read_pin(f"sha256:{digest}") or "") if at else (str(read_source(text)), "")
    except PullError as error:
        raise click.UsageError(error.message) from None


def clean(store: Path, find: Callable[[Warehouse], Rubbish], *, yes: bool) -> None:
    """Says what goes, and removes it with `yes`. Ends the program when it cannot."""
    try:
        with cleaning(store):
            rubbish = find(Warehouse(store))
            for model in rubbish.models:
                pin = f" {model.pin}" if model.pin else ""
                click.echo(f"{'removed' if yes else 'would go'}: {model.source}{pin} ({model.size / 1e6:,.0f} MB)")
            if yes:
                rubbish.remove()
    except PullError as error:
        fail(error.message, error.reason.exit_code)
    except OSError as error:
        failure = store_failure(error, store)
        fail(failure.message, failure.reason.exit_code)
    if not rubbish.paths:
        click.echo("Nothing to remove.")
    else:
        what = "freed" if yes else "would be freed; --yes does it"
        click.echo(f"{rubbish.freed / 1e6:,.0f} MB {what}.")
