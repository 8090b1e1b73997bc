"""Why pods are not ready: the root cause among a backend's children. Pure.

Decided here: which of the many things a pod says is the cause, and the sentence that says what to do. The order is that
of a pod's life: refused, unscheduled, volume, image, configuration, crash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.conditions import Reason
from pointsman.controllers.conditions import unix
from pointsman.controllers.image_causes import references, trouble, volume_trouble
from pointsman.controllers.image_looks import is_look
from pointsman.controllers.own_pulls import is_pull
from pointsman.controllers.placing import GpuView, unschedulable
from pointsman.controllers.readiness import condition, is_ready
from pointsman.engines import last_words
from pointsman.engines.base import WAIT_PREFIX
from pointsman.engines.last_words import MEND
from pointsman.kube.resources import Obj, is_deleting, name_of, uid_of
from pointsman.models.errors import PullReason

STUCK_SECONDS = 10.0
"""Events of a child are read only when it has not moved for this long."""

_IMAGE = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
     "ImageInspectError", "SignatureValidationFailed"}
)  # fmt: skip
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_VOLUME_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "ProvisioningFailed"})
_VOLUME_WORDS = re.compile(r"persistentvolumeclaim|available persistent volumes", re.IGNORECASE)

ENDS = frozenset(
    {Reason.OUT_OF_MEMORY, Reason.CRASH_LOOP, Reason.GPU_OUT_OF_MEMORY, Reason.CONTEXT_TOO_LONG, Reason.GPU_DRIVER,
     Reason.GPU_UNSUPPORTED}
)  # fmt: skip
"""Why a process ended."""
NOT_A_MODEL = PullReason.NOT_A_MODEL.exit_code
"""How `pointsman wait-model` ends when there is something, and it is no model."""


@dataclass(frozen=True)
class Cause:
    reason: Reason
    message: str
    stuck: bool = False
    """True when it will not heal by itself."""


def root_cause(
    live: Obj | None,
    claim: Obj | None,
    pods: Iterable[Obj],
    events: Mapping[str, tuple[Obj, ...]],
    gpus: GpuView | None = None,
) -> Cause | None:
    """The cause that speaks for the backend; None when no child says that something is wrong. `live`: its workload."""
    if (refused := _refused(live) or _refused_set(events)) is not None:
        return refused
    newest = sorted(pods, key=_born, reverse=True)
    causes = [c for pod in newest if (c := pod_cause(pod, claim, events, gpus)) is not None]
    return causes[0] if causes else None


def pod_cause(
    pod: Obj, claim: Obj | None, events: Mapping[str, tuple[Obj, ...]], gpus: GpuView | None = None
) -> Cause | None:
    """What is wrong with one pod. `gpus`: None for a pod that wants none."""
    if is_deleting(pod) or is_ready(pod):
        return None
    status = pod.get("status") or {}
    if (unscheduled := condition(pod, "PodScheduled")) and unscheduled.get("status") == "False":
        message = str(unscheduled.get("message") or "")
        if _VOLUME_WORDS.search(message):
            return Cause(Reason.VOLUME_UNBOUND, _volume(message, claim, events))
        return Cause(Reason.UNSCHEDULABLE, unschedulable(message, gpus))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if (image := trouble(container, references(pod))) is not None:
            return Cause(image.reason, image.sentence)
        cause = _container(container)
        if cause is not None and not (cause.reason is Reason.CRASH_LOOP and (is_pull(container) or is_look(container))):
            return cause  # why a pull or a look failed says the model's own status
    for event in reversed(events.get(uid_of(pod), ())):
        if (image := volume_trouble(str(event.get("message") or ""), references(pod))) is not None:
            return Cause(image.reason, image.sentence)
        if event.get("reason") in _VOLUME_EVENTS:
            return Cause(Reason.VOLUME_UNBOUND, f"the volume cannot be mounted: {_short(event.get('message'))}")
        if event.get("type") == "Warning":
            return Cause(Reason.NOT_READY, f"{event.get('reason')}: {_short(event.get('message'))}")
    if status.get("phase") == "Failed":
        message = status.get("message") or status.get("reason") or "the pod failed"
        return Cause(Reason.NOT_READY, f"pod {name_of(pod)} failed: {_short(message)}")
    return None


def refused_pod(events: Iterable[Obj]) -> str:
    """Why a Job has no pod, from the Job's Events; empty when they do not say."""
    for event in reversed(tuple(events)):
        if event.get("type") == "Warning":
            return f"the API server refuses the pull's pod: {_short(event.get('message'))}"
    return ""


def podless(jobs: Iterable[Obj], pods: Mapping[str, tuple[Obj, ...]], now: float) -> list[Obj]:
    """The Jobs under way that have had no pod for a while; `pods` by the Job's name."""
    return [
        j for j in jobs
        if not pods.get(name_of(j)) and not (j.get("status") or {}).get("conditions") and now - unix(_born(j))
        >= STUCK_SECONDS
    ]  # fmt: skip


def stuck(pods: Iterable[Obj], claim: Obj | None, now: float) -> list[Obj]:
    """The children whose Events may say more than their status does: pods that have a node but no running container,
    and the claim that a pod waits for."""
    out: list[Obj] = []
    for pod in pods:
        if is_deleting(pod) or is_ready(pod) or now - _since(pod) < STUCK_SECONDS:
            continue
        statuses = (pod.get("status") or {}).get("containerStatuses") or ()
        waiting = [(c.get("state") or {}).get("waiting") for c in statuses]
        plain = all(
            w is not None and w.get("reason") in (None, "ContainerCreating", "PodInitializing") for w in waiting
        )
        if (pod.get("spec") or {}).get("nodeName") and plain:
            out.append(pod)
        elif claim is not None and not (pod.get("spec") or {}).get("nodeName") and _pending(claim):
            out.append(claim)
    return list({uid_of(o): o for o in out}.values())


def _refused(live: Obj | None) -> Cause | None:
    if live is None:
        return None
    failure = condition(live, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return None
    return Cause(Reason.POD_REFUSED, f"the API server refuses the pod: {_short(failure.get('message'))}", stuck=True)


def _refused_set(events: Mapping[str, tuple[Obj, ...]]) -> Cause | None:
    """`events`: those too of sets that lack pods, by what `events_key` says."""
    for event in (e for key, found in events.items() if key.startswith("StatefulSet/") for e in reversed(found)):
        if event.get("reason") == "FailedCreate":
            message = f"the API server refuses the pod: {_short(event.get('message'))}"
            return Cause(Reason.POD_REFUSED, message, stuck=True)
    return None


def aged(children: Iterable[Obj], now: float) -> list[Obj]:
    """Those that have been there for a while."""
    return [c for c in children if now - unix(_born(c)) >= STUCK_SECONDS]


def events_key(child: Obj) -> str:
    """By what the Events of a child are kept: its UID, or its name where only that is known."""
    return uid_of(child) or f"{child['kind']}/{name_of(child)}"


def _container(status: Mapping[str, Any]) -> Cause | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason") or ""
    message = _short(waiting.get("message"))
    last = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated") or {}
    if reason in _IMAGE:
        detail = message or reason
        return Cause(Reason.IMAGE_PULL_FAILED, f"image {status.get('image')} cannot be pulled: {detail}")
    if reason in _CONFIG:
        return Cause(Reason.CONTAINER_CONFIG, f"the container cannot start: {message or reason}")
    if last.get("reason") == "OOMKilled":
        return Cause(
            Reason.OUT_OF_MEMORY,
            "the engine was killed for using more memory than spec.resources.limits allows: raise it, or choose a"
            " smaller model",
        )
    if reason == "CrashLoopBackOff" or (last.get("exitCode") and not status.get("started")):
        if last.get("exitCode") == NOT_A_MODEL and str(status.get("name") or "").startswith(WAIT_PREFIX):
            _, _, sentence = _short(last.get("message")).partition(": ")
            return Cause(Reason.NOT_A_MODEL, f"{sentence or 'what was pulled is no model.'} {MEND}")
        if (known := last_words.read(str(last.get("message") or ""))) is not None:
            return Cause(known.reason, known.sentence)
        code = last.get("exitCode")
        return Cause(Reason.CRASH_LOOP, f"container {status.get('name')} ended with exit code {code}: read its log")
    return None


def _volume(message: str, claim: Obj | None, events: Mapping[str, tuple[Obj, ...]]) -> str:
    if claim is not None:
        for event in reversed(events.get(uid_of(claim), ())):
            if event.get("type") == "Warning":
                return f"volume {name_of(claim)} is not bound: {_short(event.get('message'))}"
        if _pending(claim):
            name = (claim.get("spec") or {}).get("storageClassName")
            of = f"storage class {name}" if name else "no storage class, and the cluster has no default"
            return f"volume {name_of(claim)} is not bound ({of}): {_short(message)}"
    return f"the volume is not bound: {_short(message)}"


def _pending(claim: Obj) -> bool:
    return bool((claim.get("status") or {}).get("phase", "Pending") == "Pending")


def _since(pod: Obj) -> float:
    return max(
        unix(c.get("lastTransitionTime") or "") for c in ((pod.get("status") or {}).get("conditions") or [{}])
    ) or unix(_born(pod))


def _born(pod: Obj) -> str:
    return pod["metadata"].get("creationTimestamp") or ""


def _short(text: Any) -> str:
    """One line of at most 400 characters."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= 400 else line[:399] + "…"
