"""Engine Custom: any image that speaks OpenAI's API. Spec → container. Pure."""

from __future__ import annotations

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.options.custom import CustomOptions
from pointsman.domain.formats import Format
from pointsman.engines.attached import IMAGES_PATH
from pointsman.engines.base import TMP, Manifest, Scratch, model_path
from pointsman.engines.flags import reserved
from pointsman.engines.server import server


class Custom:
    """`Driver` of an image that we do not know."""

    runs_pods = True
    worker_flags = ()
    reads_files = True
    loads: frozenset[Format] = frozenset()

    def port(self, spec: LLMBackendSpec) -> int:
        return _options(spec).port

    def problem(self, spec: LLMBackendSpec) -> str | None:
        o = _options(spec)
        taken = {IMAGES_PATH: "the models"} if spec.mounts_images else {}
        if f"{o.model_mount}/".startswith(f"{IMAGES_PATH}/") and taken:
            return f"spec.custom.modelMount: {IMAGES_PATH} is where images are mounted: choose another folder"
        taken |= {o.model_mount: "modelMount"} if spec.has_sources else {}
        for path in (TMP.path, *o.writable):
            for other, what in taken.items():
                if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
                    return f"spec.custom.writable: {path} lies in or over {other} ({what}): choose another folder"
            taken[path] = "writable"
        return reserved(spec, _models(spec))

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        o = _options(spec)
        return server(
            self, spec, image, health=o.probe_path, env=_models(spec), command=o.command, args=o.args,
            store_at=o.model_mount,
        )  # fmt: skip

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        return (TMP, *(Scratch(f"writable-{i}", path) for i, path in enumerate(_options(spec).writable)))


def _options(spec: LLMBackendSpec) -> CustomOptions:
    assert spec.custom is not None  # a rule of the API
    return spec.custom


def _models(spec: LLMBackendSpec) -> dict[str, str]:
    """What the image is told of its models; arguments can refer to it."""
    out: dict[str, str] = {}
    for index, model in enumerate(spec.models):
        prefix = f"MODEL_{index}" if index else "MODEL"
        out[f"{prefix}_NAME"] = model.name
        if model.source:
            out[f"{prefix}_PATH"] = model_path(model, at=_options(spec).model_mount)
    return out
