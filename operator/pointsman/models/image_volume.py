"""A model that is an image which the pod's node has mounted: looked at, and linked to where its engine reads it.

Decided here: where in an image the model lies, and what is said when there is none. Of an image the folder `models`
counts, where it has one, else all of it: as for an image that is pulled into a volume (`folder_errand.py`). What was
mounted was verified by the node; nothing of it is read here but heads and sizes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.place import ONLY_GGUF, folder, path
from pointsman.models.errors import PullError, PullReason
from pointsman.models.model_check import CONFIGS, check_place

_MODELS = "models"
"""Where images that carry models (KServe's modelcars) have them."""
_GGUF = ".gguf"


def link_image(source: OciSource, pin: str | None, image: Path, store: Path) -> tuple[Path, int]:
    """Links the model below `store`, where nothing else lies; `image`: where it is mounted. Returns what a server
    loads, and its bytes.

    Raises `PullError` (NotAModel, StoreUnwritable).
    """
    try:
        root, place = _find(source, image)
        for file in _files(place):
            if file.suffix == ".json" and not os.access(file, os.R_OK):
                raise PermissionError(0, "", str(file))
        size = check_place(place, str(source))
    except PermissionError as error:
        raise _no_model(
            f"{source}: {_inside(Path(error.filename or image), image)} cannot be read by the user of the pods"
            f" ({os.getuid()}); give everybody the right to read the files of the image."
        ) from None
    try:
        return _link(source, pin, root, store), size
    except OSError as error:
        raise PullError(PullReason.STORE_UNWRITABLE, f"Cannot write to {store}: {error.strerror}.") from None


def _find(source: OciSource, image: Path) -> tuple[Path, Path]:
    """The folder that the source's path begins at, and the model in it."""
    if next(_files(image), None) is None:
        raise _no_model(
            f"The node has mounted nothing of {source}: it is no image whose layers are tar archives (containerd leaves"
            " out what artefacts of ORAS hold); push it as an image, or use storage.mode Shared or PerPod."
        )
    root = image / _MODELS if next(_files(image / _MODELS), None) else image
    if source.path:
        if not (root / source.path).exists():
            raise _no_model(f"{source}: there is no {source.path} in the image; check the path.")
        return root, root / source.path
    ggufs = _ggufs(root)
    if len(ggufs) == 1 or any((root / name).is_file() for name in CONFIGS):
        return root, root
    places = {file.parent for file in _files(root) if file.name in CONFIGS} | set(ggufs)
    found = sorted(_inside(place, root) for place in places)
    if not found:
        raise _no_model(f"{source} is no model: the image has neither {' nor '.join(CONFIGS)} nor a GGUF file.")
    raise _no_model(
        f"{source}: the model is not at the top of the image, or not alone in it; write its path after the tag"
        f" ({', '.join(found[:4])}{', …' if found[4:] else ''}), as in {source}/{found[0]}."
    )


def _link(source: OciSource, pin: str | None, root: Path, store: Path) -> Path:
    home = store / folder(source, pin)
    if source.path:  # with all that lies beside it: the other parts of a split file
        home.parent.mkdir(parents=True, exist_ok=True)
        _symlink(home, root)
    else:
        home.mkdir(parents=True, exist_ok=True)
        for entry in root.iterdir():
            _symlink(home / entry.name, entry)
        if len(ggufs := _ggufs(root)) == 1:
            _symlink(home / ONLY_GGUF, ggufs[0])
    return store / path(source, pin)


def _symlink(link: Path, to: Path) -> None:
    """As it should be, also after a run that was ended half-way."""
    if not link.is_symlink():
        link.symlink_to(to)


def _files(root: Path) -> Iterator[Path]:
    """Its files, in order. Raises `PermissionError` for a folder that cannot be listed."""

    def fail(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise error

    for where, folders, names in os.walk(root, onerror=fail):
        folders.sort()
        yield from (Path(where) / name for name in sorted(names))


def _ggufs(root: Path) -> list[Path]:
    return [file for file in _files(root) if file.name.endswith(_GGUF)]


def _inside(place: Path, root: Path) -> str:
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name


def _no_model(sentence: str) -> PullError:
    return PullError(PullReason.NOT_A_MODEL, sentence)
