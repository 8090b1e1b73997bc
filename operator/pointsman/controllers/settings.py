"""The operator's settings: one YAML file, checked whole, unknown keys refused.

Decided here: what an installation may choose, and every default. Not here: what one backend may choose (`api/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pointsman import __version__
from pointsman.api import meta
from pointsman.api.engine import Engine
from pointsman.api.pods import Resources, Toleration
from pointsman.api.scalars import Duration, ObjectName, seconds
from pointsman.controllers.hardware import Hardware
from pointsman.engines.gpus import GpuProfile

DEFAULT_IMAGE = f"ghcr.io/pointsman/pointsman:{__version__}"
OLLAMA = "docker.io/ollama/ollama:0.17.4"
VLLM = "docker.io/vllm/vllm-openai:v0.32.0"
VLLM_CPU = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.32.0"
LLAMA_CPP = "ghcr.io/ggml-org/llama.cpp:server"


class BadSettings(Exception):
    """The file cannot be used. The text is one sentence that names the key."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class EngineSettings(_Part):
    image: Annotated[str, Field(min_length=1)]
    """Engine image of backends that name none; running backends keep theirs."""
    images: dict[Hardware, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """In place of it, for pods that compute on this."""


class EnginesSettings(_Part):
    ollama: EngineSettings = EngineSettings(image=OLLAMA, images={"AMD": f"{OLLAMA}-rocm"})
    vllm: EngineSettings = EngineSettings(image=VLLM, images={"CPU": VLLM_CPU})
    llama_cpp: EngineSettings = EngineSettings(
        image=LLAMA_CPP,
        images={"NVIDIA": f"{LLAMA_CPP}-cuda", "AMD": f"{LLAMA_CPP}-rocm", "Intel": f"{LLAMA_CPP}-intel"},
    )

    def image(self, engine: Engine, hardware: Hardware | None) -> str:
        """Empty for an engine that has no image of its own."""
        engines = {Engine.OLLAMA: self.ollama, Engine.VLLM: self.vllm, Engine.LLAMA_CPP: self.llama_cpp}
        if engine not in engines:
            return ""
        found = engines[engine]
        return found.image if hardware is None else found.images.get(hardware, found.image)


class ProxySettings(_Part):
    """The HTTP proxy on the way to External backends."""

    https_proxy: Annotated[str, Field(pattern=r"^(http://.+)?$")] = ""
    http_proxy: Annotated[str, Field(pattern=r"^(http://.+)?$")] = ""
    no_proxy: str = ".svc,.cluster.local"
    secret_name: str = ""
    """Of a Secret with such variables; it must exist in each namespace with a gateway."""

    def variables(self) -> dict[str, str]:
        """The environment of a gateway; empty without a proxy."""
        named = {"HTTPS_PROXY": self.https_proxy, "HTTP_PROXY": self.http_proxy}
        out = {k: v for k, v in named.items() if v}
        return out | ({"NO_PROXY": self.no_proxy} if self.no_proxy and (out or self.secret_name) else {})


class GatewaySettings(_Part):
    """The gateway of each namespace."""

    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "64Mi"}, limits={"memory": "512Mi"})
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class_name: str = ""
    remove_after: Duration = "5m"
    """How long a namespace keeps its gateway after its last resource is gone."""
    drain_seconds: Annotated[int, Field(ge=0, le=3600)] = 600
    """How long a stopping gateway may take to finish its streams."""
    proxy: ProxySettings = ProxySettings()


class PullSettings(_Part):
    """The Jobs that pull models."""

    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "1Gi"})
    refresh_every: Duration = "24h"
    """How often the sources of models with `refresh: OnChange` are asked."""
    parallel: Annotated[int, Field(ge=1, le=64)] | None = None
    """Parts of a model fetched at once; the program's own default when not given."""


class LeaseSettings(_Part):
    namespace: ObjectName | None = None
    """The operator's own namespace when not given."""
    name: str = meta.LEASE_NAME


class Settings(_Part):
    image: Annotated[str, Field(min_length=1)] = DEFAULT_IMAGE
    """The image of operator, gateway and pull."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets that gateways and pulls use; they must exist in each namespace."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to look after; empty: all."""
    engines: EnginesSettings = EnginesSettings()
    gateway: GatewaySettings = GatewaySettings()
    pull: PullSettings = PullSettings()
    gpu_profiles: dict[str, GpuProfile] = Field(default_factory=dict)
    """Kinds of GPU that a backend may name with `spec.gpu.profile`."""
    lease: LeaseSettings = LeaseSettings()
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Resources reconciled at once."""

    def engine_image(self, engine: Engine, hardware: Hardware | None) -> str:
        """The image of backends that name none; empty for an engine that has none of its own."""
        return self.engines.image(engine, hardware)

    @property
    def refresh_seconds(self) -> float:
        return seconds(self.pull.refresh_every)

    @property
    def remove_gateway_after(self) -> float:
        """Seconds."""
        return seconds(self.gateway.remove_after)


def load(path: Path | None) -> Settings:
    """Raises `BadSettings`."""
    if path is None:
        return Settings()
    try:
        raw: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"the settings file cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise BadSettings(f"the settings file is not YAML: {error}") from error
    try:
        return Settings.model_validate({} if raw is None else raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the settings"
        if first["type"] == "extra_forbidden":
            raise BadSettings(f"settings: unknown key {key}: remove it") from error
        raise BadSettings(f"settings: {key}: {first['msg']}") from error
