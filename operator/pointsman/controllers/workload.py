"""The object that runs a backend's pods: a Deployment, or a LeaderWorkerSet where a replica is a group of pods. Pure.

Decided here: what is read of either, so that nobody else asks which of the two it is. Not here: what they look like
when written (`children.py`, `engines/groups.py`).

Facts: a LeaderWorkerSet's status has no observed generation (0.8), so what it says may be of the templates before.
How far a group is, is therefore counted in the pods: each carries the digest of the templates that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pointsman.api import meta
from pointsman.controllers.readiness import is_ready
from pointsman.engines.groups import GROUP_INDEX, SIZE, TEMPLATE_ANNOTATION, WORKER
from pointsman.kube.resources import LEADER_WORKER_SETS, Obj, annotations_of, labels_of, name_of


@dataclass(frozen=True)
class Progress:
    """How far a rollout is; counts of replicas, of pods that do not end."""

    replicas: int = 0
    updated: int = 0
    """Made of what was written last."""
    ready: int = 0
    available: int = 0
    current: bool = True
    """Whoever makes the pods has seen what was written last."""


def is_group(live: Obj | None) -> bool:
    """Is a replica of it several pods?"""
    return live is not None and live["kind"] == LEADER_WORKER_SETS.kind


def template(live: Obj | None) -> Obj:
    """The template of the pods that serve; empty where there is none."""
    spec = (live or {}).get("spec") or {}
    return spec.get("template") or (spec.get("leaderWorkerTemplate") or {}).get("leaderTemplate") or {}


def replicas(live: Obj | None) -> int | None:
    """How many it was told to have."""
    return int(live["spec"]["replicas"]) if live is not None else None


def serves(pod: Obj) -> bool:
    """Does it take requests? The workers of a group do not."""
    return labels_of(pod).get(meta.COMPONENT_LABEL) != WORKER


def progress(live: Obj | None, pods: Iterable[Obj]) -> Progress:
    """`pods`: all of the backend's that do not end."""
    if live is None:
        return Progress(current=False)
    if is_group(live):
        return _of_groups(live, pods)
    has = live.get("status") or {}
    return Progress(
        replicas=int(has.get("replicas") or 0),
        updated=int(has.get("updatedReplicas") or 0),
        ready=int(has.get("readyReplicas") or 0),
        available=int(has.get("availableReplicas") or 0),
        current=int(has.get("observedGeneration") or 0) >= int(live["metadata"].get("generation") or 0),
    )


def lacking(live: Obj | None, pods: Iterable[Obj]) -> list[Obj]:
    """The StatefulSets of a LeaderWorkerSet that have made too few pods: one makes all leaders, and one the workers of
    each group. They are not ours, so only their names are known, and since when they are there at most."""
    if live is None or not is_group(live):
        return []
    groups, out = _groups(pods), []
    if len(groups) < int(live["spec"]["replicas"]):
        out.append(_set(live, name_of(live)))
    for index, group in sorted(groups.items()):
        if len(group) < _size(group):
            out.append(_set(next(filter(serves, group)), f"{name_of(live)}-{index}"))
    return out


def _set(since: Obj, name: str) -> Obj:
    metadata = {k: since["metadata"][k] for k in ("namespace", "creationTimestamp") if k in since["metadata"]}
    return {"kind": "StatefulSet", "metadata": {**metadata, "name": name}}


def _groups(pods: Iterable[Obj]) -> dict[str, list[Obj]]:
    """By their index."""
    out: dict[str, list[Obj]] = {}
    for pod in pods:
        if (index := labels_of(pod).get(GROUP_INDEX)) is not None:
            out.setdefault(index, []).append(pod)
    return out


def _of_groups(live: Obj, pods: Iterable[Obj]) -> Progress:
    digest = annotations_of(template(live)).get(TEMPLATE_ANNOTATION)
    groups = _groups(pods)
    whole = [g for g in groups.values() if len(g) == _size(g)]
    ready = sum(all(is_ready(p) for p in group) for group in whole)
    updated = sum(all(annotations_of(p).get(TEMPLATE_ANNOTATION) == digest for p in group) for group in whole)
    return Progress(replicas=len(groups), updated=updated, ready=ready, available=ready)


def _size(group: Iterable[Obj]) -> int:
    """How many pods the group is to have, as its leader was told."""
    return next((int(s) for p in group if serves(p) and (s := annotations_of(p).get(SIZE))), 0)
