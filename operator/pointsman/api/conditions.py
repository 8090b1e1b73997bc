"""The conditions of both kinds: their types and the closed set of reasons of each.

A reason says what is the case in one PascalCase word that scripts may match; the message beside it is for people and
says what to do next. The kstatus meaning of `Reconciling` and `Stalled`: present and True only while so.
"""

from __future__ import annotations

from enum import StrEnum

from pointsman.api.base import StatusModel


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One row of `status.conditions` (the Kubernetes convention)."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
    """RFC 3339, UTC; changes only when `status` does."""


class BackendCondition(StrEnum):
    """Conditions of an LLMBackend."""

    READY = "Ready"
    """The summary: with False, the root cause of what is wrong below."""
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    MODELS_PULLED = "ModelsPulled"
    AVAILABLE = "Available"
    """At least one pod of the engine is ready (External: always, it is not ours to run)."""
    FITS = "Fits"
    """The model and its context fit the GPUs, by an estimate; Unknown without GPUs."""
    HEALTHY = "Healthy"
    """Most gateways get answers from it."""


class RouteCondition(StrEnum):
    """Conditions of a ModelRoute."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ACCEPTED = "Accepted"
    """False for a name that an older route already has."""
    RESOLVED_REFS = "ResolvedRefs"
    """False when a backend, model, Secret or CA bundle it names does not exist."""
    SERVING = "Serving"
    """Every ready gateway serves this generation with a usable target."""
    FALLBACK_ARMED = "FallbackArmed"
    """At least two targets could serve now: a fallback would find somewhere to go."""


class Reason(StrEnum):
    """Every reason that a condition of ours can carry."""

    # good, or merely not yet
    READY = "Ready"
    SCALED_TO_ZERO = "ScaledToZero"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    SETTLED = "Settled"
    NOT_STALLED = "NotStalled"
    PULLED = "Pulled"
    PULLING = "Pulling"
    WAITING_FOR_POD = "WaitingForPod"
    NOTHING_TO_PULL = "NothingToPull"
    AVAILABLE = "Available"
    NOT_OURS_TO_RUN = "NotOursToRun"
    STARTING = "Starting"
    ANSWERING = "Answering"
    NO_REPORT = "NoReport"
    # what the children say
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOP = "CrashLoop"
    OUT_OF_MEMORY = "OutOfMemory"
    FITS_GPU = "FitsGpu"
    TOO_LARGE = "TooLarge"
    FIT_UNKNOWN = "FitUnknown"
    """The model's figures or the GPU's memory are not known."""
    NO_GPU = "NoGpu"
    GPU_OUT_OF_MEMORY = "GpuOutOfMemory"
    CONTEXT_TOO_LONG = "ContextTooLong"
    """The KV cache of the asked context does not fit beside the model."""
    GPU_DRIVER = "GpuDriver"
    GPU_UNSUPPORTED = "GpuUnsupported"
    VOLUME_UNBOUND = "VolumeUnbound"
    CONTAINER_CONFIG = "ContainerConfigError"
    POD_REFUSED = "PodRefused"
    """The API server refuses the pod itself: quota, Pod Security, an admission webhook."""
    NO_IMAGE_VOLUMES = "NoImageVolumes"
    """The cluster or its nodes cannot mount images: `storage.mode: Image` needs that."""
    NOT_READY = "NotReady"
    # pulls (the words of `models.errors.PullReason`)
    PULL_FAILED = "PullFailed"
    UNKNOWN_MODEL = "UnknownModel"
    ACCESS_DENIED = "AccessDenied"
    DISK_FULL = "DiskFull"
    DIGEST_MISMATCH = "DigestMismatch"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    BAD_REFERENCE = "BadReference"
    STORE_UNWRITABLE = "StoreUnwritable"
    BAD_CONFIGURATION = "BadConfiguration"
    NOT_A_MODEL = "NotAModel"
    REGISTRY_ERROR = "RegistryError"
    UNTRUSTED_CERTIFICATE = "UntrustedCertificate"
    CORRUPT_BLOB = "CorruptBlob"
    STORE_FAILED = "StoreFailed"
    INTERRUPTED = "Interrupted"
    # what the user must mend
    ADAPTER_NOT_LOADED = "AdapterNotLoaded"
    NAME_TAKEN = "NameTaken"
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    CA_BUNDLE_MISSING = "CaBundleMissing"
    CLAIM_MISSING = "ClaimMissing"
    INVALID_SPEC = "InvalidSpec"
    APPLY_REFUSED = "ApplyRefused"
    NO_LEADER_WORKER_SETS = "NoLeaderWorkerSets"
    """A replica on several nodes is asked for, and the cluster cannot run groups of pods."""
    # health, as gateways report it
    UNHEALTHY = "Unhealthy"
    # routes
    ACCEPTED = "Accepted"
    MODEL_NAME_CLAIMED = "ModelNameClaimed"
    RESOLVED = "Resolved"
    BACKEND_NOT_FOUND = "BackendNotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    SERVING = "Serving"
    NO_USABLE_TARGET = "NoUsableTarget"
    GATEWAY_NOT_READY = "GatewayNotReady"
    OLD_GENERATION = "OldGeneration"
    ARMED = "Armed"
    ONE_TARGET = "OneTarget"
    ONE_USABLE_TARGET = "OneUsableTarget"
    FALLBACK_OFF = "FallbackOff"
