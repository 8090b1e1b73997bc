"""Engine VLLM: spec → container. Pure.

Facts: `/health` answers 200 when the engine can take requests; the server listens only then; it writes compiled
kernels and caches below HOME.
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

PORT = 8000
HOME = "/home/pointsman"
RESERVED = ("HF_HUB_OFFLINE", "HOME")
"""Without these as they are the backend does not work: `env` must not set them."""


class Vllm:
    """`Driver` of vLLM."""

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
        args = ["serve", model_path(model), "--served-model-name", model.name, "--port", str(PORT)]
        if spec.gpu is not None and spec.gpu.count > 1:
            args += ["--tensor-parallel-size", str(spec.gpu.count)]
        if spec.vllm is not None and spec.vllm.max_model_len is not None:
            args += ["--max-model-len", str(spec.vllm.max_model_len)]
        env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "HOME": HOME}
        out: Manifest = {
            "name": "engine",
            "image": image,
            "command": ["vllm"],
            "args": args,
            "env": environment(env, spec),
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            **http_probes("/health", spec.startup_seconds),
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": mounts(self, spec, read_only=True),
        }
        if wanted := resources(spec):
            out["resources"] = wanted
        return out

    def scratch(self) -> tuple[Scratch, ...]:
        return (Scratch("home", HOME), TMP, Scratch("shm", "/dev/shm", in_memory=True))  # noqa: S108
