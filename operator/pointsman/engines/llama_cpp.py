"""Engine LlamaCpp: spec → container. Pure.

Facts: `llama-server` answers `/health` with 503 while it loads, then with 200; it answers to any model name.
"""

from __future__ import annotations

from pointsman.api.backend import LLMBackendSpec
from pointsman.engines.base import (
    CONTAINER_SECURITY,
    TMP,
    Manifest,
    Scratch,
    environment,
    http_probes,
    model_path,
    mounts,
    resources,
)

PORT = 8080
RESERVED = ("LLAMA_ARG_MODEL", "LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "LLAMA_ARG_ALIAS")
"""Without these as they are the backend does not work: `env` must not set them."""


class LlamaCpp:
    """`Driver` of llama.cpp's server."""

    runs_pods = True
    reads_files = True

    def port(self, spec: LLMBackendSpec) -> int:
        return PORT

    def problem(self, spec: LLMBackendSpec) -> str | None:
        for variable in spec.env or ():
            if variable.name in RESERVED:
                return f"spec.env: {variable.name} is set by Pointsman: remove it"
        return None

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        (model,) = spec.models
        args = ["--host", "0.0.0.0", "--port", str(PORT), "--model", model_path(model), "--alias", model.name]
        if spec.llama_cpp is not None and spec.llama_cpp.parallel is not None:
            args += ["--parallel", str(spec.llama_cpp.parallel)]
        out: Manifest = {
            "name": "engine",
            "image": image,
            "args": args,
            "env": environment({}, spec),
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            **http_probes("/health", spec.startup_seconds),
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": mounts(self, spec, read_only=True),
        }
        if wanted := resources(spec):
            out["resources"] = wanted
        return out

    def scratch(self) -> tuple[Scratch, ...]:
        return (TMP,)
