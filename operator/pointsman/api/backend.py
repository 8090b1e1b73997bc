"""LLMBackend: one engine with its models, run by us or merely known by its URL."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pointsman.api.base import ApiModel, ListMap, Rule, StatusModel, Text
from pointsman.api.conditions import Condition
from pointsman.api.scalars import Digest, Duration, ModelName, Money, ObjectName, Quantity, SecretKey, amount, seconds

DEFAULT_PROBE_INTERVAL = "5s"
DEFAULT_EXTERNAL_PROBE_INTERVAL = "60s"
DEFAULT_MAX_QUEUED = 64
DEFAULT_QUEUE_TIMEOUT = "10s"


class Engine(StrEnum):
    OLLAMA = "Ollama"
    EXTERNAL = "External"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Capability(StrEnum):
    """What a model can do."""

    CHAT = "Chat"
    TOOLS = "Tools"
    VISION = "Vision"
    EMBEDDINGS = "Embeddings"
    CODE = "Code"
    REASONING = "Reasoning"


class Pricing(ApiModel):
    """What tokens cost. In one currency throughout; amounts are strings, so that nothing is rounded."""

    input_per_million_tokens: Money = Field(description="For a million tokens of prompts.")
    output_per_million_tokens: Money = Field(description="For a million tokens of answers.")


class Model(ApiModel):
    """A model that this backend serves."""

    name: ModelName = Field(
        description="The name that routes use; unique in the backend. External: what the server calls it."
    )
    source: (
        Annotated[
            str,
            Text(
                r"^ollama(\+http)?://[A-Za-z0-9][A-Za-z0-9._:/-]*$",
                "must be a model's source such as ollama://llama3.2:3b or ollama://registry.example:5000/team/model:tag"
                " (ollama+http:// for a registry without TLS)",
                512,
            ),
        ]
        | None
    ) = Field(default=None, description="Where the model comes from: ollama://[host[:port]/][namespace/]name[:tag].")
    digest: Digest | None = Field(
        default=None,
        description="Pins the model: the sha256 of its manifest. The pull fails when the source has another.",
    )
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=6)] = Field(
        default=(),
        description="All that the model can do. A request that needs Tools, Vision or Embeddings is not sent to a model"
        " that declares others; Code and Reasoning draw requests of such a task. Without it, it is taken to do all.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    context_length: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Tokens it takes. Longer prompts, by an estimate, go elsewhere while there is somewhere to go.",
    )
    pricing: Pricing | None = Field(default=None, description="What its tokens cost, where it is not spec.pricing.")


class OllamaOptions(ApiModel):
    """Options of the Ollama server, each an environment variable of it."""

    parallel: int | None = Field(
        default=None, ge=1, le=1024, description="Requests a model answers at once (OLLAMA_NUM_PARALLEL)."
    )
    max_loaded_models: int | None = Field(
        default=None, ge=1, le=256, description="Models in memory at once (OLLAMA_MAX_LOADED_MODELS)."
    )
    max_queue: int | None = Field(
        default=None, ge=1, le=65536, description="Requests that may wait for a model to load (OLLAMA_MAX_QUEUE)."
    )
    keep_alive: Duration | None = Field(
        default=None, description="How long an unused model stays in memory (OLLAMA_KEEP_ALIVE)."
    )
    origins: Annotated[
        tuple[
            Annotated[
                str,
                Text(r"^[^\s,]+$", "must be an origin such as https://app.example, without spaces or commas", 256, 1),
            ],
            ...,
        ],
        Field(max_length=32),
    ] = Field(default=(), description="Web origins that may call the server directly (OLLAMA_ORIGINS).")


class SecretRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: ObjectName = Field(description="The Secret's name.")
    key: SecretKey = Field(default="api-key", description="The key in it.")


class LocalRef(ApiModel):
    name: ObjectName = Field(description="The object's name.")


class BundleKind(StrEnum):
    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105  the name of a kind


class CaBundleRef(ApiModel):
    """One key of a ConfigMap or Secret in the same namespace, with certificates in PEM."""

    kind: BundleKind = Field(default=BundleKind.CONFIG_MAP, description="What holds the bundle.")
    name: ObjectName = Field(description="Its name.")
    key: SecretKey = Field(default="ca.crt", description="The key in it.")


class ExternalOptions(ApiModel):
    """A server that someone else runs and that speaks OpenAI's API."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.caBundleRef) || self.url.startsWith('https://')",
            "external.caBundleRef needs a url with https: without TLS there is no certificate to check",
            lambda s: s.ca_bundle_ref is None or s.url.startswith("https://"),
        ),
        Rule(
            "!has(self.clientCertificateRef) || self.url.startsWith('https://')",
            "external.clientCertificateRef needs a url with https: without TLS there is nobody to show it to",
            lambda s: s.client_certificate_ref is None or s.url.startswith("https://"),
        ),
    )

    url: Annotated[
        str,
        Text(
            r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
            "must be the API's base URL with http or https, such as https://api.openai.com/v1 or http://vllm.team.svc:8000/v1",
            1024,
        ),
    ] = Field(description="Base URL of the API, with its version: https://api.openai.com/v1.")
    secret_ref: SecretRef | None = Field(default=None, description="The API key, sent as a bearer token.")
    ca_bundle_ref: CaBundleRef | None = Field(
        default=None,
        description="Certificates of the authorities that may sign the server's; in place of the system's, not beside"
        " them.",
    )
    client_certificate_ref: LocalRef | None = Field(
        default=None,
        description="A Secret of type kubernetes.io/tls (tls.crt, tls.key): the certificate that the gateways show the"
        " server, where it wants one (mutual TLS).",
    )


class Gpu(ApiModel):
    """GPUs of each pod."""

    count: int = Field(ge=1, le=64, description="GPUs a pod gets.")
    resource_name: Annotated[
        str,
        Text(
            r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            "must be an extended resource such as nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-1g.10gb",
            128,
        ),
    ] = Field(default="nvidia.com/gpu", description="The extended resource that counts them.")


class Storage(ApiModel):
    """The volume that holds the models; one for all pods of the backend."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.existingClaim) || !has(self.storageClassName)",
            "existingClaim brings its own storage class: remove storageClassName",
            lambda s: s.existing_claim is None or s.storage_class_name is None,
        ),
    )

    size: Quantity = Field(default="50Gi", description="Size of the volume; it may grow, never shrink.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; the cluster's default when not given."
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="ReadWriteOnce keeps all pods on one node; ReadWriteMany lets them spread.",
    )
    existing_claim: ObjectName | None = Field(
        default=None,
        description="Use this claim. Backends that name one claim share their downloads. It is never deleted.",
    )
    retain: bool = Field(default=False, description="Keep the claim and the models in it when the backend is deleted.")


class GenerationMode(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class GenerationProbe(ApiModel):
    """A check that makes the model produce one token, while no traffic proves that it can."""

    mode: GenerationMode = Field(
        default=GenerationMode.ENABLED,
        description="Without the block: Enabled for engines that Pointsman runs, Disabled for engine External.",
    )
    interval: Duration = Field(default="60s", description="Time without any answer after which it is made.")
    timeout: Duration = Field(default="20s", description="Time the token may take.")


class Probe(ApiModel):
    """The gateways' checks of each endpoint."""

    interval: Duration | None = Field(
        default=None,
        description=f"Time between two checks; {DEFAULT_PROBE_INTERVAL} when not given,"
        f" {DEFAULT_EXTERNAL_PROBE_INTERVAL} for engine External.",
    )
    timeout: Duration = Field(default="2s", description="Time a check may take.")
    failure_threshold: int = Field(
        default=3, ge=1, le=100, description="Failed checks in a row that make it Unhealthy."
    )
    success_threshold: int = Field(default=2, ge=1, le=100, description="Good checks in a row that let it back in.")
    generation: GenerationProbe | None = Field(
        default=None,
        description="A check by one token, for an engine that listens but hangs. External: it costs a token on each"
        " gateway, and a server that loads models on demand loads the first of `models` for it.",
    )


class Limits(ApiModel):
    """How much an endpoint is asked at once, and what happens to requests beyond that."""

    max_in_flight: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Requests that an endpoint answers at once, of all gateways together. Engine Ollama:"
        " ollama.parallel for each model in memory when not given; otherwise no limit.",
    )
    max_queued: int | None = Field(
        default=None,
        ge=0,
        le=65536,
        description=f"Requests that may wait for a slot of an endpoint; {DEFAULT_MAX_QUEUED} when not given. With 0"
        " they move on to the next target at once.",
    )
    queue_timeout: Duration | None = Field(
        default=None,
        description="How long a request waits for a slot before it moves on to the next priority;"
        f" {DEFAULT_QUEUE_TIMEOUT} when not given.",
    )


class EnvVar(ApiModel):
    name: Annotated[str, Text(r"^[A-Za-z_][A-Za-z0-9_]*$", "must be the name of an environment variable", 128, 1)]
    value: Annotated[str, Field(max_length=4096)] = ""


class Resources(ApiModel):
    """Requests and limits of the engine's container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)


class Toleration(ApiModel):
    key: Annotated[str, Field(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)


def _only(engine: str, field: str) -> str:
    return f"self.engine == '{engine}' || !has(self.{field})"


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
            "self.engine != 'Ollama' || self.models.all(m, has(m.source))",
            "engine Ollama needs a source for each model, such as ollama://llama3.2:3b",
            lambda s: s.engine is not Engine.OLLAMA or all(m.source for m in s.models),
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
            " || has(self.drainSeconds))",
            "engine External runs no pods: remove gpu, storage, image, imagePullSecrets, resources, env, nodeSelector,"
            " tolerations, runtimeClassName, startupTimeout and drainSeconds",
            lambda s: s.engine is not Engine.EXTERNAL or not s.has_pod_fields(),
        ),
        Rule(
            "self.engine != 'External' || self.replicas == 1",
            "engine External runs no pods: replicas cannot be set",
            lambda s: s.engine is not Engine.EXTERNAL or s.replicas == 1,
        ),
        Rule(
            "!has(self.limits) || has(self.limits.maxInFlight) || !(has(self.limits.maxQueued)"
            " || has(self.limits.queueTimeout)) || (has(self.ollama) && has(self.ollama.parallel))",
            "limits.maxQueued and limits.queueTimeout need a limit: set limits.maxInFlight",
            lambda s: (
                s.limits is None
                or s.max_in_flight is not None
                or (s.limits.max_queued is None and s.limits.queue_timeout is None)
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
    external: ExternalOptions | None = Field(default=None, description="Options of engine External.")
    replicas: int = Field(default=1, ge=0, le=256, description="Pods of the engine (kubectl scale sets this).")
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
        default=None, description="Time a pod has to answer its first check; 10m when not given."
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
            )
        )  # fmt: skip

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

        Ollama takes any number and lets them wait, so the limit that it works with is ours to keep: `parallel` for each
        model that may be in memory."""
        if self.limits is not None and self.limits.max_in_flight is not None:
            return self.limits.max_in_flight
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


class ModelStatus(StatusModel):
    """How far a model is."""

    name: str
    source: str = ""
    state: Literal["Pending", "Pulling", "Verifying", "Pulled", "Failed", "Served"] = "Pending"
    """`Served`: an External's model, nothing to pull."""
    digest: str = ""
    size_bytes: int = 0
    completed_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: int = 0
    eta_seconds: int | None = None
    progress: str = ""
    """For people and printer columns: `43 % of 4.7 GB, 52 MB/s, 51 s left`."""
    message: str = ""
    pull: str = ""
    """The pull that this state speaks of: the name of its Job, made from source, pin and volume. A model is not pulled
    again while its state says Pulled for the same pull, even when the Job is gone."""


class HealthStatus(StatusModel):
    """What the gateways say of the backend."""

    state: Literal["Unknown", "Healthy", "Degraded", "Unhealthy", "Probation"] = "Unknown"
    reason: str = ""
    message: str = ""
    since: str = ""
    latency_ms: int | None = None
    """Milliseconds of the last good check or answer; rounded so that it rarely changes."""


class LLMBackendStatus(StatusModel):
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], ListMap("type", max_items=16)] = ()
    replicas: int = 0
    ready_replicas: int = 0
    selector: str = ""
    image: str = ""
    """The engine image that this backend runs; chosen once, kept over upgrades of Pointsman."""
    image_source: Literal["", "Spec", "Default"] = ""
    """Where it came from: `Default` images are kept, whatever the default is by now."""
    last_handled_reconcile_at: str = ""
    """The value of the reconcile-now annotation that was acted on."""
    models: Annotated[tuple[ModelStatus, ...], ListMap("name", max_items=32)] = ()
    models_summary: str = ""
    """For printer columns: `2/3`, or the progress of the pull under way."""
    health: HealthStatus = HealthStatus()
