"""How much memory may this process have? The least of its control groups' limits and the machine's memory."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def memory_limit(proc: Path = _PROC, root: Path = _ROOT) -> int:
    """Bytes. Reads cgroup v2 and v1; what cannot be read sets no limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(proc, root)])


def _limits(proc: Path, root: Path) -> list[int]:
    found = []
    for path, name in _groups(proc, root):
        # A group is bound by those above it, too. Within a container the own group is often mounted as the root.
        for folder in (path, *path.parents):
            if not folder.is_relative_to(root):
                break
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                found.append(int(text))
    return found


def _groups(proc: Path, root: Path) -> list[tuple[Path, str]]:
    """This process's group in each hierarchy that limits memory, with the name of the limit's file."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    out = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        inner = path.strip("/")
        if number == "0" and not controllers:
            out.append((root / inner, "memory.max"))
        elif "memory" in controllers.split(","):
            out.append((root / "memory" / inner, "memory.limit_in_bytes"))
    return out
