"""The memory that a gateway may have, from its control groups."""

from __future__ import annotations

from pathlib import Path

from pointsman.gateway.memory import memory_limit

MIB = 1024 * 1024


def machine(tmp_path: Path, groups: str, **limits: str) -> int:
    proc = tmp_path / "cgroup"
    proc.write_text(groups)
    root = tmp_path / "sys"
    for name, value in limits.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / file.name.replace("_max", ".max")).write_text(value + "\n")
    return memory_limit(proc, root)


def test_the_least_limit_of_the_groups_above_counts(tmp_path: Path) -> None:
    limits = {"memory_max": "max", "pods__memory_max": str(64 * MIB), "pods__me__memory_max": str(128 * MIB)}
    assert machine(tmp_path, "0::/pods/me\n", **limits) == 64 * MIB


def test_a_container_s_own_group_is_the_root(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/\n", memory_max=str(32 * MIB)) == 32 * MIB


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "sys" / "memory" / "docker" / "x"
    path.mkdir(parents=True)
    (path / "memory.limit_in_bytes").write_text(str(48 * MIB))
    assert machine(tmp_path, "7:cpu,cpuacct:/docker/x\n5:memory:/docker/x\n") == 48 * MIB


def test_without_any_limit_it_is_the_machine_s(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/\n", memory_max="max") == memory_limit(tmp_path / "absent", tmp_path)
    assert memory_limit() > 16 * MIB
