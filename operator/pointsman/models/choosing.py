"""Which files of a repository make the model. Pure.

A repository often holds its weights several times, for other programs: a server needs one of them, and the small files
beside it. Decided here: that safetensors are taken before pickled weights, and what is never taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_OTHER_PROGRAMS = ("original/", "metal/", "onnx/", "openvino/", "coreml/", "runs/", ".git")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_NEVER = (
    ".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".onnx_data", ".tflite", ".mlmodel", ".ot",
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".mp4", ".wav", ".mp3", ".pdf", ".zip",
)  # fmt: skip


def is_safe(path: str) -> bool:
    """True for a relative path that stays in its folder."""
    parts = path.split("/")
    return bool(path) and all(p not in ("", ".", "..") for p in parts) and "\\" not in path and path.isprintable()


def gguf_parts(path: str) -> tuple[str, ...]:
    """The path itself, or of a split model (`…-00001-of-00003.gguf`) those of all its parts."""
    found = _SPLIT.fullmatch(path)
    if not found:
        return (path,)
    count = int(found[3])
    return tuple(f"{found[1]}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1))


def model_files(paths: Sequence[str]) -> tuple[str, ...]:
    """What a server that reads `config.json` needs of a repository; empty when there is nothing of a model."""
    wanted = [
        path for path in paths if not path.lower().startswith(_OTHER_PROGRAMS) and not path.lower().endswith(_NEVER)
    ]
    if any(path.endswith(".safetensors") for path in wanted):
        wanted = [path for path in wanted if not path.endswith(_PICKLED)]
        whole = [path for path in wanted if path.endswith(".safetensors") and not _consolidated(path)]
        if any("/" not in path for path in whole):  # Mistral's repositories hold all weights twice
            wanted = [path for path in wanted if not _consolidated(path)]
    elif not any(path.endswith(_PICKLED) for path in wanted):
        return ()
    return tuple(sorted(wanted))


def _consolidated(path: str) -> bool:
    return PurePosixPath(path).name.startswith("consolidated") and (
        path.endswith((".safetensors", ".safetensors.index.json"))
    )
