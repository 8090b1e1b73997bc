"""What is built from source, and from exactly what: one recipe a program, its key over everything that shapes it.

Nothing is built here; ``build.py`` does. All come through the Go module proxy, because a bare machine reaches package
registries only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.cluster.cache import digest, digest_of_tree

HERE = Path(__file__).resolve().parent
KUBERNETES_MODULE = HERE / "kubernetes"
OLLAMA_INCLUDE = HERE / "ollama" / "include"

KUBERNETES_VERSION = "v1.35.4"
"""1.36 needs containerd 2, which Debian 12 does not have."""
HELM_VERSION = "v4.3.1"
COREDNS_VERSION = "v1.15.0"
OLLAMA_VERSION = "v0.17.4"

OLLAMA_HEADER_PACKAGES = ("nlohmann-json3-dev", "libstb-dev")
"""Headers that Ollama vendors below ``vendor/``, which no module zip carries; Debian has the same ones."""

_STRIP = "-s -w"
_COMPONENT = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Recipe:
    """How one program is built: ``go build`` inside ``module``, or ``go install package@version`` without one."""

    name: str
    package: str
    version: str
    ldflags: str = _STRIP
    module: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: {"CGO_ENABLED": "0"})
    headers: bool = False
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
        if self.module:
            parts.append(digest_of_tree(self.module))
        if self.headers:
            parts += [digest_of_tree(OLLAMA_INCLUDE), *OLLAMA_HEADER_PACKAGES]
        return digest(*parts)


def _kubernetes(name: str, seconds: int) -> Recipe:
    _, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": "1", "gitMinor": minor}
    return Recipe(
        name=name,
        package=f"k8s.io/kubernetes/cmd/{name}",
        version=KUBERNETES_VERSION,
        # Unstamped, the API server calls itself v0.0.0 and clients refuse its version.
        ldflags=" ".join([_STRIP, *(f"-X {_COMPONENT}.{key}={value}" for key, value in stamps.items())]),
        module=KUBERNETES_MODULE,
        cold_seconds=seconds,
    )


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every program by name, in the order in which they are built (the first warms the Go cache for the next)."""
    all_of_them = (
        _kubernetes("kube-apiserver", 480),
        _kubernetes("kube-controller-manager", 53),
        _kubernetes("kubectl", 20),
        _kubernetes("kube-scheduler", 8),
        _kubernetes("kubelet", 106),
        _kubernetes("kube-proxy", 15),
        Recipe("coredns", "github.com/coredns/coredns", COREDNS_VERSION, cold_seconds=140),
        Recipe("helm", "helm.sh/helm/v4/cmd/helm", HELM_VERSION, cold_seconds=60),
        Recipe(
            "ollama",
            "github.com/ollama/ollama",
            OLLAMA_VERSION,
            ldflags=f"{_STRIP} -X=github.com/ollama/ollama/version.Version={OLLAMA_VERSION.lstrip('v')}",
            environment={"CGO_ENABLED": "1", "CGO_CFLAGS": "-O2", "CGO_CXXFLAGS": "-O2"},
            headers=True,
            cold_seconds=420,
        ),
    )
    return {recipe.name: recipe for recipe in all_of_them}


CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm")
NODE = ("kubelet", "kube-proxy", "coredns")
ENGINES = ("ollama",)
