"""Pulls that each pod makes for itself, before its engine starts (`storage.mode: PerPod`). Pure.

Decided here: the containers that make them, and where a pod says how far they are. Not here: pulls into a shared
volume, which are Jobs (`pull_job.py`); what the pods together say of a model (`own_pull_status.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pointsman.api.model import Model
from pointsman.controllers.pull_job import container
from pointsman.controllers.settings import Settings
from pointsman.domain.report import PullReport, Report
from pointsman.engines.base import Worker
from pointsman.kube.resources import Obj, uid_of

PREFIX = "pull-"


def containers(models: Iterable[Model], settings: Settings, worker: Worker) -> list[dict[str, Any]]:
    """One after the other, as Kubernetes runs init containers."""
    return [container(f"{PREFIX}{i}", m, settings, worker) for i, m in enumerate(models) if m.source]


def statuses(pod: Obj) -> Iterator[Obj]:
    """What Kubernetes says of a pod's pulls."""
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        if is_pull(status):
            yield status


def is_pull(status: Obj) -> bool:
    """Is it the status of a container that pulls?"""
    return str(status.get("name") or "").startswith(PREFIX)


def under_way(pod: Obj) -> bool:
    """Does one of them run now, and report?"""
    return any("running" in (s.get("state") or {}) for s in statuses(pod))


def reports(pods: Iterable[Obj], last: Callable[[str], Report | None]) -> dict[str, PullReport]:
    """What pods say that pull, by their UID; `last` gives the last report of a pod by its UID."""
    found = {uid_of(p): last(uid_of(p)) for p in pods}
    return {uid: report for uid, report in found.items() if isinstance(report, PullReport)}
