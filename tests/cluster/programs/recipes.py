"""What is built from source, and from exactly what: one recipe a program, its key over everything that shapes it.

Nothing is built here; ``build.py`` does. All sources come from package registries, because a bare machine reaches
nothing else: Go modules from the module proxy, C++ from inside a source distribution on PyPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.cluster.cache import digest, digest_of_tree

HERE = Path(__file__).resolve().parent
KUBERNETES_MODULE = HERE / "kubernetes"
CONTAINERD_MODULE = HERE / "containerd"
OLLAMA_INCLUDE = HERE / "ollama" / "include"

KUBERNETES_VERSION = "v1.35.4"
CONTAINERD_VERSION = "v2.2.9"
"""Debian 12 has 1.6; image volumes need 2.1."""
HELM_VERSION = "v4.3.1"
COREDNS_VERSION = "v1.15.0"
OLLAMA_VERSION = "v0.17.4"
VERSITYGW_VERSION = "v1.8.0"
KEDA_MODULE = "github.com/kedacore/keda/v2"
KEDA_VERSION = "v2.21.0"
LWS_VERSION = "v0.8.0"
LLAMA_CPP_VERSION = "0.3.36"
"""Of `llama-cpp-python`, whose source distribution carries the whole of llama.cpp, its server included."""

OLLAMA_HEADER_PACKAGES = ("nlohmann-json3-dev", "libstb-dev")
"""Headers that Ollama vendors below ``vendor/``, which no module zip carries; Debian has the same ones."""

_STRIP = "-s -w"
_COMPONENT = "k8s.io/component-base/version"


@dataclass(frozen=True)
class GoRecipe:
    """How one program is built: ``go build`` inside ``module``, or ``go install package@version`` without one."""

    name: str
    package: str
    version: str
    ldflags: str = _STRIP
    tags: str = ""
    module: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: {"CGO_ENABLED": "0"})
    headers: bool = False
    in_place: bool = False
    """Built where the module cache has it: its go.mod replaces modules, which `go install` refuses, or the proxy
    lists no versions of it."""
    files: tuple[str, ...] = ()
    """What of the package's module is put beside the program."""
    cold_seconds: int = 60
    """About how long it takes on two cores with nothing cached; only said to whoever waits."""

    @property
    def key(self) -> str:
        """Content key: another flag, version, checksum or stub header is another program."""
        parts: list[str] = [
            self.name,
            self.package,
            self.version,
            self.ldflags,
            *sorted(map("=".join, self.environment.items())),
        ]
        if self.tags:
            parts.append(self.tags)
        if self.module:
            parts.append(digest_of_tree(self.module))
        if self.headers:
            parts += [digest_of_tree(OLLAMA_INCLUDE), *OLLAMA_HEADER_PACKAGES]
        parts += self.files
        return digest(*parts)


@dataclass(frozen=True)
class CmakeRecipe:
    """How one program is built with CMake and Ninja, from a folder of a source distribution on PyPI."""

    name: str
    """The program's, and CMake's target."""
    package: str
    version: str
    folder: str
    """Where in the distribution the sources are."""
    options: tuple[str, ...]
    cold_seconds: int = 600

    @property
    def key(self) -> str:
        """Content key; a released version never changes on PyPI."""
        return digest(self.name, self.package, self.version, self.folder, *self.options)


Recipe = GoRecipe | CmakeRecipe


def _kubernetes(name: str, seconds: int) -> GoRecipe:
    _, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": "1", "gitMinor": minor}
    return GoRecipe(
        name=name,
        package=f"k8s.io/kubernetes/cmd/{name}",
        version=KUBERNETES_VERSION,
        # Unstamped, the API server calls itself v0.0.0 and clients refuse its version.
        ldflags=" ".join([_STRIP, *(f"-X {_COMPONENT}.{key}={value}" for key, value in stamps.items())]),
        module=KUBERNETES_MODULE,
        cold_seconds=seconds,
    )


def _containerd(name: str, seconds: int) -> GoRecipe:
    return GoRecipe(
        name=name,
        package=f"github.com/containerd/containerd/v2/cmd/{name}",
        version=CONTAINERD_VERSION,
        ldflags=f"{_STRIP} -X github.com/containerd/containerd/v2/version.Version={CONTAINERD_VERSION}",
        # Snapshots in file systems that no machine of ours has: a third of the program.
        tags="no_btrfs no_zfs no_devmapper",
        module=CONTAINERD_MODULE,
        cold_seconds=seconds,
    )


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every program by name, in the order in which they are built (the first warms the Go cache for the next)."""
    all_of_them: tuple[Recipe, ...] = (
        _kubernetes("kube-apiserver", 480),
        _kubernetes("kube-controller-manager", 53),
        _kubernetes("kubectl", 20),
        _kubernetes("kube-scheduler", 8),
        _kubernetes("kubelet", 106),
        _kubernetes("kube-proxy", 15),
        _containerd("containerd", 70),
        _containerd("containerd-shim-runc-v2", 5),
        _containerd("ctr", 15),
        GoRecipe("coredns", "github.com/coredns/coredns", COREDNS_VERSION, cold_seconds=140),
        GoRecipe("helm", "helm.sh/helm/v4/cmd/helm", HELM_VERSION, cold_seconds=60),
        GoRecipe(
            "ollama",
            "github.com/ollama/ollama",
            OLLAMA_VERSION,
            ldflags=f"{_STRIP} -X=github.com/ollama/ollama/version.Version={OLLAMA_VERSION.lstrip('v')}",
            environment={"CGO_ENABLED": "1", "CGO_CFLAGS": "-O2", "CGO_CXXFLAGS": "-O2"},
            headers=True,
            cold_seconds=420,
        ),
        GoRecipe(
            "versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSITYGW_VERSION, cold_seconds=150
        ),
        GoRecipe("keda", f"{KEDA_MODULE}/cmd/operator", KEDA_VERSION, in_place=True, cold_seconds=720),
        GoRecipe("keda-adapter", f"{KEDA_MODULE}/cmd/adapter", KEDA_VERSION, in_place=True, cold_seconds=90),
        GoRecipe(
            "lws",
            "sigs.k8s.io/lws/cmd",
            LWS_VERSION,
            in_place=True,
            files=("config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml", "config/webhook/manifests.yaml"),
            cold_seconds=70,
        ),
        CmakeRecipe(
            "llama-server",
            "llama-cpp-python",
            LLAMA_CPP_VERSION,
            folder="vendor/llama.cpp",
            # One file that runs on every x86-64 with AVX2, as the cache may outlive this machine's processor; and no
            # web page, whose parts would come from the network.
            options=(
                "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_EXE_LINKER_FLAGS=-s", "-DBUILD_SHARED_LIBS=OFF",
                "-DGGML_NATIVE=OFF", "-DGGML_OPENMP=OFF", "-DGGML_CCACHE=OFF", "-DLLAMA_OPENSSL=OFF",
                "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
                "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
                "-DLLAMA_BUILD_NUMBER=0", f"-DLLAMA_BUILD_COMMIT={LLAMA_CPP_VERSION}",
            ),
            cold_seconds=480,
        ),
    )  # fmt: skip
    return {recipe.name: recipe for recipe in all_of_them}


CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm")
NODE = ("kubelet", "kube-proxy", "coredns", "containerd", "containerd-shim-runc-v2", "ctr")
ENGINES = ("ollama",)
SERVERS = ("versitygw",)
"""Where pulls come from: an S3 server."""
OPERATORS = ("lws",)
"""Other people's, whose kinds ours uses."""
USUAL = (*CONTROL_PLANE, *NODE, *ENGINES, *SERVERS, *OPERATORS)
"""What all tiers but the longest need. The other engines are built with their images."""
