"""Waiting until a model is whole in a store that somebody else fills: what pods do before their server starts.

A model appears by one rename when all of it is there (`layouts/folder.py`), so there is nothing to wait for in between.
It is looked at once more then: a store may have been filled by other hands, and a server's own message about a broken
file comes late and says little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from pointsman.api.sources.ollama import OllamaSource
from pointsman.api.sources.place import folder, path
from pointsman.api.sources.pvc import PvcSource
from pointsman.api.sources.source import Source
from pointsman.models.errors import PullError, PullReason
from pointsman.models.model_check import check_place
from pointsman.models.volume import status_of

POLL_SECONDS = 1.0
"""Network file systems tell nobody of changes: one looks."""


async def wait_for_model(
    source: Source,
    pin: str | None,
    store: Path,
    sleep: Callable[[float], Awaitable[None]],
    on_wait: Callable[[], None] = lambda: None,
) -> tuple[Path, int]:
    """What a server loads, and its bytes. `on_wait` is called before each further look.

    Raises `PullError`: NotAModel when it is there and is none; BadReference for a source that is not pulled as files.
    """
    if isinstance(source, OllamaSource):
        raise PullError(
            PullReason.BAD_REFERENCE, f"{source} is a model in Ollama's store, which Ollama looks at by itself."
        )
    place = store / path(source, pin)  # of pvc:// an absolute path, which is taken as it is
    whole = place if isinstance(source, PvcSource) else store / folder(source, pin)
    while status_of(whole) is None:
        on_wait()
        await sleep(POLL_SECONDS)
    if status_of(place) is None:
        raise PullError(PullReason.NOT_A_MODEL, f"{source} was pulled, but there is no {place} in it.")
    return place, check_place(place, str(source))
