"""Engine Custom: any image that speaks OpenAI's API. Spec → container. Pure."""

from __future__ import annotations

from pointsman.api.backend import LLMBackendSpec
from pointsman.engines.base import (
    CONTAINER_SECURITY,
    TMP,
    Manifest,
    Scratch,
    environment,
    http_probes,
    mounts,
    resources,
)


class Custom:
    """`Driver` of an image that we do not know."""

    runs_pods = True
    reads_files = True

    def port(self, spec: LLMBackendSpec) -> int:
        assert spec.custom is not None  # a rule of the API
        return spec.custom.port

    def problem(self, spec: LLMBackendSpec) -> str | None:
        return None

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        options = spec.custom
        assert options is not None
        out: Manifest = {
            "name": "engine",
            "image": image,
            "env": environment({}, spec),
            "ports": [{"name": "http", "containerPort": options.port, "protocol": "TCP"}],
            **http_probes(options.probe_path, spec.startup_seconds),
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": mounts(self, spec, read_only=True),
        }
        if wanted := resources(spec):
            out["resources"] = wanted
        return out

    def scratch(self) -> tuple[Scratch, ...]:
        return (TMP,)
