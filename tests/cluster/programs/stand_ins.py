"""Stand-ins for NVIDIA's libraries, so that PyPI's PyTorch loads on a machine without a GPU at half the size.

PyPI has one PyTorch for x86: the one for CUDA, whose parts name 3 GB of NVIDIA's libraries. On a CPU nothing calls
them, but the loader wants them there, with the versions and symbols that are asked for. So each missing one gets a
library that has exactly these and whose functions abort. PyTorch's CPU part, which does all the work, is untouched.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

_OURS = re.compile(r"lib(?:cu(?!da\.)|nv|nccl).*\.so\.\d+")
"""NVIDIA's libraries, as they are named where they are needed; less the driver, whose absence says: no GPU."""
_BY_PREFIX = {"cusparseLt": "libcusparseLt", "nccl": "libnccl", "curand": "libcurand", "cuFile": "libcufile"}
"""Libraries whose symbols carry no version."""


def write(objects: Iterable[Path], present: Iterable[Path], target: Path) -> None:
    """Write a stand-in into `target` for each of NVIDIA's libraries that `objects` need and `present` lacks.

    Raises RuntimeError with what the compiler said.
    """
    there = {path.name for path in present}
    wanted: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for needed, symbols in map(_needs, objects):
        for name in needed - there:
            wanted[name].setdefault("", set())
        for symbol, (version, library) in symbols.items():
            owner = library or next((n for n in wanted if n.startswith(_prefixed(symbol) or "-")), "")
            if owner in wanted:
                wanted[owner][version].add(symbol)
    target.mkdir(parents=True, exist_ok=True)
    for name, versions in wanted.items():
        _compile(name, versions, target)


def _needs(path: Path) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """NVIDIA's libraries that this object names; and its undefined symbols, with version and library where it says."""
    needed = {m[1] for m in re.finditer(r"\(NEEDED\).*\[(.*)\]", _run("readelf", "-dW", str(path)))}
    library_of: dict[str, str] = {}
    library = ""
    for line in _run("readelf", "-VW", str(path)).splitlines():
        if found := re.search(r"\bFile: (\S+)", line):
            library = found[1]
        elif (found := re.search(r"\bName: (\S+)", line)) and library:
            library_of[found[1]] = library
    symbols = {}
    for line in _run("nm", "-D", "--undefined-only", "--with-symbol-versions", str(path)).splitlines():
        symbol, _, version = line.split()[-1].partition("@")
        symbols[symbol] = (version.lstrip("@"), library_of.get(version.lstrip("@"), ""))
    return {n for n in needed if _OURS.fullmatch(n)}, symbols


def _prefixed(symbol: str) -> str:
    return next((library for prefix, library in _BY_PREFIX.items() if symbol.startswith(prefix)), "")


def _compile(name: str, versions: Mapping[str, set[str]], target: Path) -> None:
    source = ["#include <stdlib.h>"]
    script = []
    for version, symbols in versions.items():
        source += [f"void {symbol}(void) {{ abort(); }}" for symbol in sorted(symbols)]
        if version:
            script.append(f"{version} {{ global: {' '.join(f'{s};' for s in sorted(symbols))} }};")
    (target / f"{name}.c").write_text("\n".join(source))
    (target / f"{name}.map").write_text("\n".join(script))
    options = [f"-Wl,--version-script={target}/{name}.map"] if script else []
    _run(
        "gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", *options, f"{target}/{name}.c", "-o", f"{target}/{name}"
    )
    for suffix in ("c", "map"):
        (target / f"{name}.{suffix}").unlink()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
