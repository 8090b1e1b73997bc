"""`pointsman link-image`: what a pod does before its server starts when its models are images (`storage.mode: Image`).
The looking and linking itself is `models/image_volume.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pointsman.api.sources.oci import OciSource
from pointsman.domain.report import PullProgress
from pointsman.models.errors import PullError, PullReason
from pointsman.models.figures import read_figures
from pointsman.models.image_volume import link_image as link
from pointsman.models.model_check import formats
from pointsman.models.outcome import PullOutcome, failed, write_outcome
from pointsman.models.reference import read_pin, read_source


@click.command("link-image", short_help="Looks at a model that is a mounted image, and links it into a store.")
@click.argument("source")
@click.option("--image", type=click.Path(path_type=Path), required=True, help="Where the image is mounted.")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--digest", help="The digest that it is mounted by (sha256:…).")
@click.option("--termination-log", type=click.Path(path_type=Path), help="File for the outcome as JSON.")
def link_image(source: str, image: Path, store: Path, digest: str | None, termination_log: Path | None) -> None:
    """Look whether a mounted image holds a model that a server could load, and link it into a store.

    Exit codes: 0 it is linked; 20 the source cannot be read; 23 it is no model; 26 the store cannot be written.
    """
    try:
        parsed, pin = read_source(source), read_pin(digest)
        if not isinstance(parsed, OciSource):
            raise PullError(PullReason.BAD_REFERENCE, f"{source} is no image: write oci://registry/repository:tag.")
        place, size = link(parsed, pin, image, store)
    except PullError as error:
        write_outcome(failed(error, PullProgress(state="Pulling")), termination_log)
        print(f"{error.reason}: {error.message}", file=sys.stderr, flush=True)
        raise SystemExit(error.reason.exit_code) from None
    where = place.relative_to(store).as_posix()
    done = PullOutcome(
        state="Pulled",
        digest=pin or "",
        total_bytes=size,
        path=where,
        figures=read_figures(place),
        formats=formats(place),
    )
    write_outcome(done, termination_log)
    print(f"{place} is whole: {size / 1e6:,.0f} MB", flush=True)
