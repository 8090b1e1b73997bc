"""Builds the missing programs, one after the other, and says how it goes.

Each program has its own key, so an interrupted run goes on with the next one; each lands by rename, so that a program
that is there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.cluster import cache, debian
from tests.cluster.programs import go
from tests.cluster.programs.recipes import (
    OLLAMA_HEADER_PACKAGES,
    OLLAMA_INCLUDE,
    CmakeRecipe,
    GoRecipe,
    Recipe,
    recipes,
)


class BuildFailed(RuntimeError):
    """A program did not build; the message ends with what the compiler said last."""


def path_of(name: str) -> Path:
    """Where the program of this recipe is, or will be."""
    recipe = recipes()[name]
    return cache.root() / "programs" / recipe.key / recipe.name


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """Build what is missing of these; return every program's path. Costs milliseconds when nothing is missing.

    Raises BuildFailed.
    """
    wanted = list(names)
    paths = {name: path_of(name) for name in wanted}
    if all(path.exists() for path in paths.values()):
        return paths
    with cache.locked("programs"):
        missing = [name for name in recipes() if name in paths and not paths[name].exists()]
        left = sum(recipes()[name].cold_seconds for name in missing)
        for number, name in enumerate(missing, 1):
            recipe = recipes()[name]
            which = f"program {number} of {len(missing)}: {name}"
            _say(f"{which} {recipe.version}, up to {_minutes(left)} left if nothing is cached")
            started = time.monotonic()
            _build(recipe, paths[name])
            left -= recipe.cold_seconds
            _say(f"{which} built in {time.monotonic() - started:.0f} s")
    return paths


def _build(recipe: Recipe, target: Path) -> None:
    match recipe:
        case GoRecipe():
            _build_go(recipe, target)
        case CmakeRecipe():
            _build_cmake(recipe, target)


def _build_cmake(recipe: CmakeRecipe, target: Path) -> None:
    debian.ensure(debian.COMPILERS, debian.CMAKE)
    environment = {**os.environ, "LC_ALL": "C"}
    with cache.made_whole(target.parent) as fresh, tempfile.TemporaryDirectory(dir=fresh.parent) as scratch:
        folder = Path(scratch)
        sources = _sdist(recipe, folder) / recipe.folder
        configure = ["cmake", "-S", str(sources), "-B", f"{scratch}/build", "-G", "Ninja", *recipe.options]
        _run(configure, environment, folder, f"{recipe.name}-configure")
        # Ninja's own default, two jobs more than there are cores, has a gigabyte each for some of these sources.
        jobs = ["-j", str(os.cpu_count() or 1)]
        _run(["ninja", "-C", f"{scratch}/build", *jobs, recipe.name], environment, folder, recipe.name)
        shutil.copy2(folder / "build" / "bin" / recipe.name, fresh / recipe.name)


def _sdist(recipe: CmakeRecipe, folder: Path) -> Path:
    """The source distribution, unpacked below `folder`."""
    what = f"{recipe.package}=={recipe.version}"
    pip = ["uv", "tool", "run", "pip", "download", "--quiet", "--no-deps", "--no-binary", recipe.package]
    _run([*pip, "--dest", str(folder), what], os.environ, folder, f"{recipe.name}-sources")
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return next(p for p in folder.iterdir() if p.is_dir())


def _build_go(recipe: GoRecipe, target: Path) -> None:
    compiler = go.ensure()
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", **recipe.environment}
    if recipe.headers:
        debian.ensure(debian.COMPILERS)
        folder = _headers() / "usr" / "include"
        environment["CGO_CXXFLAGS"] = f"{recipe.environment['CGO_CXXFLAGS']} -I{folder}"
    # Headers and sources are in content-keyed or module-cache folders, so -trimpath makes the result the same anywhere.
    flags = ["-trimpath", "-ldflags", recipe.ldflags, *(["-tags", recipe.tags] if recipe.tags else [])]
    where = source(recipe) if recipe.in_place else recipe.module
    with cache.made_whole(target.parent) as fresh:
        if where:
            command = [compiler, "build", *flags, "-o", str(fresh / recipe.name), recipe.package]
        else:
            environment["GOBIN"] = str(fresh)
            command = [compiler, "install", *flags, f"{recipe.package}@{recipe.version}"]
        _run(command, environment, where or fresh, recipe.name)
        for file in recipe.files:
            shutil.copyfile(source(recipe) / file, fresh / Path(file).name)


def source(recipe: GoRecipe) -> Path:
    """Where the module cache has the module of a program that is built in place; fetched when it has not.

    Raises BuildFailed.
    """
    module = recipe.package.partition("/cmd")[0]
    command = [go.ensure(), "mod", "download", "-json", f"{module}@{recipe.version}"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{module} cannot be had: {done.stdout.strip()} {done.stderr.strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def _run(command: list[str], environment: Mapping[str, str], folder: Path, name: str) -> None:
    """Run the compiler at low priority, with a sign of life each half minute."""
    log = cache.root() / "programs" / f"{name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nice", "-n", "10", *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=30)
                    break
                except subprocess.TimeoutExpired:
                    _say(f"    {name}: {time.monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildFailed(f"{name} did not build (whole log: {log}):\n{tail}")


def _headers() -> Path:
    """The C++ headers that Ollama's module zip lacks: Debian's packages unpacked, not installed, and our own stub.

    The folder's name carries their key, because Go's build cache sees the flag and not what the headers contain.
    """
    key = cache.digest(cache.digest_of_tree(OLLAMA_INCLUDE), *OLLAMA_HEADER_PACKAGES)
    target = cache.root() / "programs" / f"headers-{key}"
    if not target.exists():
        with cache.made_whole(target) as fresh:
            debian.unpack(OLLAMA_HEADER_PACKAGES, fresh)
            shutil.copytree(OLLAMA_INCLUDE, fresh / "usr" / "include", dirs_exist_ok=True)
    return target


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
