"""The programs' cache: what makes a new key, and that only whole programs are found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.cluster import cache, programs
from tests.cluster.programs import build
from tests.cluster.programs.recipes import Recipe, recipes


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POINTSMAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shell_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Builds that write a script instead of compiling; the list tells which were made."""
    made: list[str] = []

    def compile_it(recipe: Recipe, target: Path) -> None:
        made.append(recipe.name)
        if recipe.name == "kubelet":
            raise build.BuildFailed("kubelet did not build")
        with cache.made_whole(target.parent) as fresh:
            (fresh / recipe.name).write_text("#!/bin/sh\n")

    monkeypatch.setattr(build, "_build", compile_it)
    return made


@pytest.mark.parametrize(
    "change",
    [
        {"version": "v0.0.1"},
        {"ldflags": "-s"},
        {"package": "example.com/other"},
        {"environment": {"CGO_ENABLED": "1"}},
        {"module": None},
        {"headers": True},
    ],
)
def test_every_input_of_a_build_is_in_its_key(change: dict[str, object]) -> None:
    recipe = recipes()["kubectl"]
    assert dataclasses.replace(recipe, **change).key != recipe.key  # type: ignore[arg-type]


def test_estimate_is_not_in_the_key() -> None:
    recipe = recipes()["kubectl"]
    assert dataclasses.replace(recipe, cold_seconds=1).key == recipe.key


def test_present_programs_are_not_built_again(shell_builds: list[str]) -> None:
    first = programs.ensure(["helm", "kubectl"])
    assert programs.ensure(["kubectl", "helm"]) == first
    assert sorted(shell_builds) == ["helm", "kubectl"]


def test_interrupted_build_goes_on_with_the_missing_program(shell_builds: list[str]) -> None:
    with pytest.raises(build.BuildFailed):
        programs.ensure(["kube-apiserver", "kubelet", "coredns"])
    assert shell_builds == ["kube-apiserver", "kubelet"]
    programs.ensure(["kube-apiserver", "coredns"])
    assert shell_builds == ["kube-apiserver", "kubelet", "coredns"]


def test_folder_takes_its_name_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def half_build() -> None:
        with cache.made_whole(target) as fresh:
            (fresh / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_build()
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"] or list(tmp_path.iterdir()) == []


def test_tree_key_sees_names_contents_and_modes_but_not_bytecode(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = tree / "a.py"
    file.write_text("1")
    keys = [cache.digest_of_tree(tree)]
    (tree / "a.pyc").write_text("compiled")
    assert cache.digest_of_tree(tree) == keys[0]
    file.write_text("2")
    keys.append(cache.digest_of_tree(tree))
    file.chmod(0o755)
    keys.append(cache.digest_of_tree(tree))
    file.rename(tree / "b.py")
    keys.append(cache.digest_of_tree(tree))
    assert len(set(keys)) == 4
