"""What a reconcile of a backend goes by: one value, read once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman.api import meta
from pointsman.api.conditions import Reason
from pointsman.api.objects import LLMBackend
from pointsman.controllers import hardware, workload
from pointsman.controllers.placing import GpuView
from pointsman.controllers.scaling import Scale
from pointsman.controllers.settings import Settings
from pointsman.domain.folding import Health
from pointsman.domain.report import PullProgress, PullReport
from pointsman.kube.resources import Obj


@dataclass(frozen=True)
class Problem:
    """Why nothing is done until somebody mends something."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Observed:
    """The cluster around one backend."""

    backend: LLMBackend
    settings: Settings
    now: float
    """Unix seconds."""
    service: Obj | None = None
    workload: Obj | None = None
    """What runs its pods, of the kind that the spec asks for."""
    outgoing: Obj | None = None
    """What ran them before the spec asked for the other kind."""
    no_groups: str = ""
    """Why there can be no LeaderWorkerSet, in a sentence; empty too where none is asked for."""
    claim: Obj | None = None
    """Of the backend's own volume, or the user's that its models are in (`children.users_claim`)."""
    jobs: Mapping[str, Obj] = field(default_factory=dict)
    """Pull Jobs of the namespace that this backend owns or could need, by name."""
    pods: tuple[Obj, ...] = ()
    """Of its engine: those that serve, and the workers of groups."""
    pull_pods: Mapping[str, tuple[Obj, ...]] = field(default_factory=dict)
    """By the Job's name."""
    progress: Mapping[str, PullProgress] = field(default_factory=dict)
    """What pulls report, by the Job's name."""
    reports: Mapping[str, PullReport] = field(default_factory=dict)
    """What serving pods report that pull for themselves, by the pod's UID."""
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    """Which object and version each Secret is that pulls are given (`SecretWatch.identity`); None: there is none."""
    health: Health = field(default_factory=Health)
    events: Mapping[str, tuple[Obj, ...]] = field(default_factory=dict)
    """Events of children that are stuck, by the child's UID."""
    gpus: GpuView | None = None
    """None for a backend that wants none."""
    mistaken: Problem | None = None
    """What the spec names and the installation does not have."""
    missing: Problem | None = None
    """What is wrong with the Secret or the CA bundle that an External names."""
    scale: Scale | None = None
    """With `spec.autoscaling`: how many pods there should be."""
    unloaded: str = ""
    """Why an adapter is not in a server that runs, in a sentence."""
    refused: Problem | None = None
    """What the API server refused when the last plan was carried out."""

    @property
    def replicas(self) -> int:
        """How many pods there should be."""
        return self.scale.replicas if self.scale is not None else self.backend.spec.replicas

    @property
    def serving(self) -> tuple[Obj, ...]:
        """The pods that take requests: of a group the leader."""
        return tuple(p for p in self.pods if workload.serves(p))

    def asked(self) -> str:
        """The reconcile-at annotation, as the status keeps it when it has been acted on."""
        return self.backend.meta.annotations.get(meta.RECONCILE_ANNOTATION, "")[:64]

    def image(self) -> tuple[str, str]:
        """The engine's image, and whether it is the spec's or the installation's. A default that was chosen once is
        kept while the hardware stays the same: an upgrade of Pointsman restarts nothing."""
        spec, status = self.backend.spec, self.backend.status
        if spec.image:
            return spec.image, "Spec"
        if status.image and status.image_source == "Default" and not hardware.changed(spec, self.workload):
            return status.image, "Default"
        return self.settings.engine_image(spec.engine, hardware.wanted(spec)), "Default"
