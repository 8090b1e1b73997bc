"""LLMBackend: one engine with its models, run by us or merely known by its URL."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.autoscaling import Autoscaling
from pointsman.api.base import ApiModel, ListMap, Rule
from pointsman.api.engine import Engine
from pointsman.api.limits import DEFAULT_MAX_QUEUED, DEFAULT_QUEUE_TIMEOUT, Limits
from pointsman.api.model import ONE_FILE, REPOSITORY, Model, Pricing, Refresh
from pointsman.api.options.custom import CustomOptions
from pointsman.api.options.external import ExternalOptions
from pointsman.api.options.llama_cpp import LlamaCppOptions
from pointsman.api.options.ollama import OllamaOptions
from pointsman.api.options.vllm import VllmOptions
from pointsman.api.pods import EnvVar, Gpu, Resources, Toleration
from pointsman.api.probing import DEFAULT_EXTERNAL_PROBE_INTERVAL, DEFAULT_PROBE_INTERVAL, Probe
from pointsman.api.references import LocalRef
from pointsman.api.scalars import Duration, ObjectName, amount, seconds
from pointsman.api.sources import pvc
from pointsman.api.sources.source import SCHEMES
from pointsman.api.storage import AccessMode, Storage, StorageMode


def _only(engine: str, field: str) -> str:
    return f"self.engine == '{engine}' || !has(self.{field})"


def _sources(engine: Engine, example: str, *, needed: bool = True) -> Rule:
    """The sources that an engine's models may have."""
    schemes = SCHEMES[engine]
    starts = " || ".join(f"m.source.startsWith('{s}')" for s in schemes)
    each = f"has(m.source) && ({starts})" if needed else f"!has(m.source) || {starts}"
    what = "needs a source for each model" if needed else "takes a source for a model"
    return Rule(
        f"self.engine != '{engine}' || self.models.all(m, {each})",
        f"engine {engine} {what} that starts with {' or '.join(schemes)}, such as {example}",
        lambda s: (
            s.engine is not engine or all(m.source.startswith(schemes) if m.source else not needed for m in s.models)
        ),
    )


def _may_be_gguf(source: str) -> bool:
    """Where the source's text says what it is: a file of a Hub or a web server. Others are looked at by the pull."""
    if not re.match(r"(hf|https?)://", source):
        return True
    return not re.match(REPOSITORY + "$", source) and source.endswith(".gguf")


def _may_be_folder(source: str) -> bool:
    return not re.match(ONE_FILE, source) or source.endswith(".gguf")


class LLMBackendSpec(ApiModel):
    """What an LLMBackend should be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.engine != 'External' || has(self.external)",
            "engine External needs external.url, the base URL of the API",
            lambda s: s.engine is not Engine.EXTERNAL or s.external is not None,
        ),
        Rule(
            _only("External", "external"),
            "the block external belongs to engine External: remove it",
            lambda s: s.engine is Engine.EXTERNAL or s.external is None,
        ),
        Rule(
            _only("Ollama", "ollama"),
            "the block ollama belongs to engine Ollama: remove it",
            lambda s: s.engine is Engine.OLLAMA or s.ollama is None,
        ),
        Rule(
            _only("VLLM", "vllm"),
            "the block vllm belongs to engine VLLM: remove it",
            lambda s: s.engine is Engine.VLLM or s.vllm is None,
        ),
        Rule(
            _only("LlamaCpp", "llamaCpp"),
            "the block llamaCpp belongs to engine LlamaCpp: remove it",
            lambda s: s.engine is Engine.LLAMA_CPP or s.llama_cpp is None,
        ),
        Rule(
            _only("Custom", "custom"),
            "the block custom belongs to engine Custom: remove it",
            lambda s: s.engine is Engine.CUSTOM or s.custom is None,
        ),
        Rule(
            "self.engine != 'Custom' || (has(self.custom) && has(self.image))",
            "engine Custom needs image, and custom.port where it listens",
            lambda s: s.engine is not Engine.CUSTOM or (s.custom is not None and s.image is not None),
        ),
        Rule(
            "self.engine == 'VLLM' || self.models.all(m, !has(m.adapters))",
            "adapters belong to engine VLLM: remove them",
            lambda s: s.engine is Engine.VLLM or not any(m.adapters for m in s.models),
        ),
        Rule(
            "!(self.engine in ['VLLM', 'LlamaCpp']) || size(self.models) == 1",
            "a server of vLLM or llama.cpp serves one model: make an LLMBackend for each",
            lambda s: s.engine not in (Engine.VLLM, Engine.LLAMA_CPP) or len(s.models) == 1,
        ),
        _sources(Engine.OLLAMA, "ollama://llama3.2:3b"),
        _sources(Engine.VLLM, "hf://Qwen/Qwen3-8B"),
        _sources(Engine.LLAMA_CPP, "hf://Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf"),
        _sources(Engine.CUSTOM, "hf://Qwen/Qwen3-8B", needed=False),
        Rule(
            "self.engine != 'LlamaCpp' || self.models.all(m, !has(m.source) || !m.source.matches('^(hf|https?)://') ||"
            " (!m.source.matches('" + REPOSITORY + "$') && m.source.endsWith('.gguf')))",
            "engine LlamaCpp reads one GGUF file: name it, as in hf://Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf",
            lambda s: s.engine is not Engine.LLAMA_CPP or all(_may_be_gguf(m.source or "") for m in s.models),
        ),
        Rule(
            "self.engine != 'VLLM' || self.models.all(m, !has(m.source) || !m.source.matches('" + ONE_FILE + "') ||"
            " m.source.endsWith('.gguf'))",
            "engine VLLM reads a folder with config.json beside its weights: name it, as in hf://Qwen/Qwen3-8B, and no"
            " file of it",
            lambda s: s.engine is not Engine.VLLM or all(_may_be_folder(m.source or "") for m in s.models),
        ),
        Rule(
            "self.engine != 'External' || self.models.all(m, !has(m.source) && !has(m.digest))",
            "engine External pulls no models: remove source and digest",
            lambda s: s.engine is not Engine.EXTERNAL or not any(m.source or m.digest for m in s.models),
        ),
        Rule(
            "self.engine != 'External' || !(has(self.gpu) || has(self.storage) || has(self.image)"
            " || has(self.resources) || has(self.env) || has(self.nodeSelector) || has(self.tolerations)"
            " || has(self.runtimeClassName) || has(self.imagePullSecrets) || has(self.startupTimeout)"
            " || has(self.drainSeconds) || has(self.autoscaling))",
            "engine External runs no pods: remove gpu, storage, image, imagePullSecrets, resources, env, nodeSelector,"
            " tolerations, runtimeClassName, startupTimeout, drainSeconds and autoscaling",
            lambda s: s.engine is not Engine.EXTERNAL or not s.has_pod_fields(),
        ),
        Rule(
            "self.engine != 'External' || self.replicas == 1",
            "engine External runs no pods: replicas cannot be set",
            lambda s: s.engine is not Engine.EXTERNAL or s.replicas == 1,
        ),
        Rule(
            "!has(self.limits) || has(self.limits.maxInFlight) || !(has(self.limits.maxQueued)"
            " || has(self.limits.queueTimeout)) || (has(self.ollama) && has(self.ollama.parallel))"
            " || (has(self.llamaCpp) && has(self.llamaCpp.parallel)) || (has(self.vllm) && has(self.vllm.maxNumSeqs))",
            "limits.maxQueued and limits.queueTimeout need a limit: set limits.maxInFlight",
            lambda s: (
                s.limits is None
                or s.max_in_flight is not None
                or (s.limits.max_queued is None and s.limits.queue_timeout is None)
            ),
        ),
        Rule(
            "!has(self.vllm) || !has(self.vllm.nodes) || (has(self.storage) && (self.storage.mode != 'Shared' ||"
            " self.storage.accessMode == 'ReadWriteMany' || has(self.storage.existingClaim)))"
            " || self.models.all(m, has(m.source) && m.source.startsWith('pvc://')"
            " && (!has(m.adapters) || m.adapters.all(a, a.source.startsWith('pvc://'))))",
            "vllm.nodes puts a replica on several nodes, where a ReadWriteOnce volume cannot be: set"
            " storage.accessMode to ReadWriteMany, or storage.mode to PerPod or Image",
            lambda s: (
                s.pods_of_a_replica == 1
                or not s.needs_store
                or s.storage_or_default.mode is not StorageMode.SHARED
                or s.storage_or_default.access_mode is AccessMode.READ_WRITE_MANY
                or s.storage_or_default.existing_claim is not None
            ),
        ),
        Rule("self.engine == oldSelf.engine", "engine cannot change: create another LLMBackend", None),
        Rule(
            "self.engine == 'External' || (has(self.storage) && has(self.storage.existingClaim) ?"
            " self.storage.existingClaim : '') == (has(oldSelf.storage) && has(oldSelf.storage.existingClaim) ?"
            " oldSelf.storage.existingClaim : '')",
            "storage.existingClaim cannot change: create another LLMBackend",
            None,
        ),
        Rule(
            "self.engine == 'External' || (has(self.storage) && has(self.storage.storageClassName) ?"
            " self.storage.storageClassName : '') == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName) ?"
            " oldSelf.storage.storageClassName : '')",
            "storage.storageClassName cannot change: create another LLMBackend",
            None,
        ),
        Rule(
            "self.engine == 'External' || (has(self.storage) ? self.storage.mode : 'Shared') =="
            " (has(oldSelf.storage) ? oldSelf.storage.mode : 'Shared')",
            "storage.mode cannot change: create another LLMBackend",
            None,
        ),
        Rule(
            "!has(self.storage) || self.storage.mode == 'Shared' || self.models.all(m, m.refresh == 'Never')",
            "refresh belongs to storage.mode Shared: with PerPod each pod, with Image each node pulls what there is",
            lambda s: (
                s.storage_or_default.mode is StorageMode.SHARED or all(m.refresh is Refresh.NEVER for m in s.models)
            ),
        ),
        Rule(
            "!has(self.storage) || self.storage.mode != 'Image' || self.models.all(m, has(m.source)"
            " && m.source.startsWith('oci://') && !has(m.secretRef)"
            " && (!has(m.adapters) || m.adapters.all(a, a.source.startsWith('oci://'))))",
            "with storage.mode Image nodes pull the models as images: each needs a source that starts with oci://, and"
            " credentials stand in imagePullSecrets, not in secretRef",
            lambda s: (
                not s.mounts_images
                or all((m.source or "").startswith("oci://") and m.secret_ref is None for m in s.served)
            ),
        ),
        Rule(
            "self.engine == 'External' || (has(self.storage) && has(self.storage.accessMode) ?"
            " self.storage.accessMode : 'ReadWriteOnce') == (has(oldSelf.storage) && has(oldSelf.storage.accessMode) ?"
            " oldSelf.storage.accessMode : 'ReadWriteOnce')",
            "storage.accessMode cannot change: create another LLMBackend",
            None,
        ),
        Rule(
            "self.engine == 'External' || quantity(has(self.storage) && has(self.storage.size) ? self.storage.size :"
            " '50Gi').compareTo(quantity(has(oldSelf.storage) && has(oldSelf.storage.size) ? oldSelf.storage.size :"
            " '50Gi')) >= 0",
            "storage.size may grow, never shrink",
            None,
        ),
    )

    engine: Engine = Field(description="The software that serves the models.")
    models: Annotated[tuple[Model, ...], ListMap("name", max_items=32, min_items=1)] = Field(
        description="The models it serves."
    )
    ollama: OllamaOptions | None = Field(default=None, description="Options of engine Ollama.")
    vllm: VllmOptions | None = Field(default=None, description="Options of engine VLLM.")
    llama_cpp: LlamaCppOptions | None = Field(default=None, description="Options of engine LlamaCpp.")
    custom: CustomOptions | None = Field(default=None, description="Options of engine Custom.")
    external: ExternalOptions | None = Field(default=None, description="Options of engine External.")
    replicas: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Pods of the engine, or with vllm.nodes groups of them (kubectl scale sets this). With"
        " `autoscaling` only what it starts with.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Lets the number of pods follow the requests, down to none."
    )
    gpu: Gpu | None = Field(default=None, description="GPUs of each pod; CPU only when not given.")
    storage: Storage | None = Field(default=None, description="The volume that holds the models.")
    limits: Limits | None = Field(default=None, description="How much an endpoint is asked at once.")
    probe: Probe = Field(default=Probe(), description="The gateways' checks of each endpoint.")
    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="The engine's image; the installation's default when not given."
    )
    image_pull_secrets: Annotated[tuple[LocalRef, ...], ListMap("name", max_items=8)] | None = Field(
        default=None, description="Secrets for a private image registry."
    )
    env: Annotated[tuple[EnvVar, ...], ListMap("name", max_items=64)] | None = Field(
        default=None, description="Further environment of the engine's container."
    )
    resources: Resources | None = Field(default=None, description="Requests and limits of the engine's container.")
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)] | None = Field(
        default=None, description="Labels of the nodes it may run on."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] | None = Field(
        default=None, description="Taints it tolerates."
    )
    runtime_class_name: ObjectName | None = Field(default=None, description="RuntimeClass of the pods, such as nvidia.")
    startup_timeout: Duration | None = Field(
        default=None,
        description="Time a pod has to answer its first check. When not given, 10m, and for an engine that reads its"
        " model at its start (VLLM, LlamaCpp, Custom) 5m more for each GPU, or without one the time to read as much as"
        " resources has of memory at 256 MiB/s.",
    )
    drain_seconds: int | None = Field(
        default=None, ge=0, le=3600, description="Seconds a stopping pod has to finish its streams; 60 when not given."
    )
    pricing: Pricing | None = Field(
        default=None, description="What tokens of its models cost; free when not given. Strategies heed it."
    )
    suspend: bool = Field(default=False, description="Stops reconciling; traffic goes on.")

    def has_pod_fields(self) -> bool:
        """Is any field set that only makes sense for an engine that we run?"""
        return any(
            v is not None
            for v in (
                self.gpu, self.storage, self.image, self.resources, self.env, self.node_selector, self.tolerations,
                self.runtime_class_name, self.image_pull_secrets, self.startup_timeout, self.drain_seconds,
                self.autoscaling,
            )
        )  # fmt: skip

    @property
    def served(self) -> tuple[Model, ...]:
        """All that it serves: the models and their adapters."""
        return tuple(served for model in self.models for served in model.served)

    @property
    def pods_of_a_replica(self) -> int:
        """How many pods run one replica together."""
        return (self.vllm.nodes if self.vllm else None) or 1

    @property
    def has_sources(self) -> bool:
        """Is there a model that is brought to the engine, from wherever?"""
        return any(m.source for m in self.models)

    @property
    def needs_store(self) -> bool:
        """Is there a model to fetch, and so a volume to put it into? What is in a volume already (`pvc://`) is not."""
        return any(m.source and not m.source.startswith(pvc.SCHEME) for m in self.served)

    @property
    def fills_pods(self) -> bool:
        """Has each pod a store of its own?"""
        return self.storage_or_default.mode is StorageMode.PER_POD

    @property
    def mounts_images(self) -> bool:
        """Are the models images that nodes keep?"""
        return self.storage_or_default.mode is StorageMode.IMAGE

    @property
    def storage_or_default(self) -> Storage:
        return self.storage or Storage()

    @property
    def startup_seconds(self) -> float:
        return seconds(self.startup_timeout or "10m")

    @property
    def drain_seconds_or_default(self) -> int:
        return 60 if self.drain_seconds is None else self.drain_seconds

    @property
    def probe_interval_seconds(self) -> float:
        default = DEFAULT_EXTERNAL_PROBE_INTERVAL if self.engine is Engine.EXTERNAL else DEFAULT_PROBE_INTERVAL
        return seconds(self.probe.interval or default)

    @property
    def max_in_flight(self) -> int | None:
        """Requests at once that an endpoint is good for; None: nobody knows a limit.

        Engines take any number and let them wait, so the limit that they work with is ours to keep. Ollama's `parallel`
        is for each model that may be in memory."""
        if self.limits is not None and self.limits.max_in_flight is not None:
            return self.limits.max_in_flight
        if self.vllm is not None and self.vllm.max_num_seqs is not None:
            return self.vllm.max_num_seqs
        if self.llama_cpp is not None and self.llama_cpp.parallel is not None:
            return self.llama_cpp.parallel
        if self.ollama is None or self.ollama.parallel is None:
            return None
        return self.ollama.parallel * min(len(self.models), self.ollama.max_loaded_models or len(self.models))

    @property
    def max_queued_or_default(self) -> int:
        given = self.limits.max_queued if self.limits else None
        return DEFAULT_MAX_QUEUED if given is None else given

    @property
    def queue_timeout_seconds(self) -> float:
        return seconds((self.limits.queue_timeout if self.limits else None) or DEFAULT_QUEUE_TIMEOUT)

    @property
    def storage_bytes(self) -> int:
        return int(amount(self.storage_or_default.size))
