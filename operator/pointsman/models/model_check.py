"""Is this file, or this folder, a model that a server could load? Looks at heads and sizes; reads no weights.

Finds what a digest cannot: a source that gave out a page instead of a model, a file that was cut off before it was
published. Sources of the formats: GGUF (ggml's `docs/gguf.md`), safetensors (its README, "Format").
"""

from __future__ import annotations

import json
from pathlib import Path

from pointsman.api.sources.place import ONLY_GGUF
from pointsman.domain.formats import Format
from pointsman.models.errors import PullError, PullReason
from pointsman.models.gguf_extent import needed_bytes

_MAX_HEADER = 100 << 20
"""What safetensors itself allows for a header."""
CONFIGS = ("config.json", "params.json", "adapter_config.json")


def check_model(file: Path, name: str) -> None:
    """Looks at one file by the ending of `name`. Raises `PullError` (NotAModel), `OSError`."""
    if name.endswith(".gguf"):
        _check_gguf(file, name)
    elif name.endswith(".safetensors"):
        _check_safetensors(file, name)


def check_place(place: Path, name: str) -> int:
    """Looks at a model's file, or at all files of its folder; `name` is for the message. Returns the bytes it has.

    Raises `PullError` (NotAModel), `OSError`.
    """
    if not place.is_dir():
        check_model(place, place.name)
        return place.stat().st_size
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    for path in files:
        check_model(path, path.relative_to(place).as_posix())
    if not any(path.name in CONFIGS or path.name.endswith(".gguf") for path in files):
        raise _no_model(f"{name} has neither {' nor '.join(CONFIGS)} nor a GGUF file")
    return sum(path.stat().st_size for path in files)


def formats(place: Path) -> tuple[Format, ...]:
    """What a model that was looked at is, to a server that reads files."""
    if not place.is_dir():
        return (Format.GGUF_FILE,) if place.name.endswith(".gguf") else ()
    there = (
        (Format.GGUF_IN_FOLDER, (ONLY_GGUF,)),
        (Format.CHECKPOINT, ("config.json", "params.json")),
        (Format.ADAPTER, ("adapter_config.json",)),
    )
    return tuple(kind for kind, names in there if any((place / name).is_file() for name in names))


def _check_gguf(file: Path, name: str) -> None:
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise _no_model(f"{name} does not begin as a GGUF file does")
        opened.seek(0)
        try:
            needed = needed_bytes(opened)
        except ValueError as error:
            raise _no_model(f"{name} has a head that is none of a GGUF file ({error})") from None
    if needed > file.stat().st_size:
        raise _no_model(f"{name} has {file.stat().st_size} bytes where its head says {needed}: it was cut off")


def _check_safetensors(file: Path, name: str) -> None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _no_model(f"{name} does not begin as a safetensors file does")
        try:
            header = json.loads(opened.read(length))
            ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
            data = max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _no_model(f"{name} has a header that is none of safetensors") from None
    if data != size - 8 - length:
        raise _no_model(f"{name} has {size - 8 - length} bytes of weights where its header says {data}")


def _no_model(why: str) -> PullError:
    return PullError(PullReason.NOT_A_MODEL, f"This is no model: {why}; look at the source.")
