"""What the operator says of a backend: the status of an LLMBackend."""

from __future__ import annotations

from typing import Annotated, Literal

from pointsman.api.base import ListMap, StatusModel
from pointsman.api.conditions import Condition


class ModelFigures(StatusModel):
    """What decides how much memory a model takes, read from its files when it was pulled."""

    weights: int = 0
    """Bytes."""
    kv: int = 0
    """Numbers kept for each token in layers that remember all of them."""
    window_kv: int = 0
    """Numbers kept for each of the last `window` tokens in layers with a sliding window."""
    window: int = 0
    context: int = 0
    """Tokens that the model was made for."""


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
    checked_at: str = ""
    """When a pull last found out what the source has."""
    pull: str = ""
    """The pull that this state speaks of: the name of its Job, made from source, pin and volume. A model is not pulled
    again while its state says Pulled for the same pull, even when the Job is gone."""
    figures: ModelFigures | None = None


class HealthStatus(StatusModel):
    """What the gateways say of the backend."""

    state: Literal["Unknown", "Healthy", "Degraded", "Unhealthy", "Probation"] = "Unknown"
    reason: str = ""
    message: str = ""
    since: str = ""
    latency_ms: int | None = None
    """Milliseconds of the last good check or answer, about: another figure only when it is off by more than a factor of
    two, and with many backends some minutes late."""


class AutoscalingStatus(StatusModel):
    """What `spec.autoscaling` has led to."""

    replicas: int = 0
    """The number of pods that it wants now."""
    last_activity_time: str = ""
    """When there last was a request, RFC 3339; a minute late at most while there are some."""
    last_scale_time: str = ""
    """When the number was last changed."""
    message: str = ""
    """Why: `1 → 3: 20 requests in flight or waiting, target 8 for each pod`."""


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
    """The value of the reconcile-at annotation that was acted on."""
    models: Annotated[tuple[ModelStatus, ...], ListMap("name", max_items=32)] = ()
    models_summary: str = ""
    """For printer columns: `2/3`, or the progress of the pull under way."""
    health: HealthStatus = HealthStatus()
    autoscaling: AutoscalingStatus | None = None
