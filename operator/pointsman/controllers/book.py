"""The reports that came in, by the pod that sent them. A plain store; who listens is `reports.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from pointsman.domain.folding import Gateways, Received, gateways, load_of
from pointsman.domain.report import GatewayReport, PullProgress, PullReport, Report
from pointsman.domain.scaling import Load


class ReportBook:
    """Last reports of gateways and pulls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._gateways: dict[str, Received] = {}
        self._pulls: dict[str, PullReport] = {}
        self._first_seen: dict[str, float] = {}

    def keep(self, pod_uid: str, report: Report) -> None:
        if isinstance(report, GatewayReport):
            self._gateways[pod_uid] = Received(report, self._clock())
        else:
            self._pulls[pod_uid] = report

    def last(self, pod_uid: str) -> Report | None:
        if (received := self._gateways.get(pod_uid)) is not None:
            return received.report
        return self._pulls.get(pod_uid)

    def forget(self, pod_uid: str) -> None:
        self._gateways.pop(pod_uid, None)
        self._pulls.pop(pod_uid, None)
        self._first_seen.pop(pod_uid, None)

    def view(self, ready: Iterable[str]) -> Gateways:
        """What the ready gateways (by pod UID) say now."""
        uids, now = list(ready), self._clock()
        for uid in uids:
            self._first_seen.setdefault(uid, now)
        return gateways(uids, self._gateways, self._first_seen, now)

    def load(self, backend: str, ready: Collection[str], leaving: Iterable[str]) -> Load:
        """What the gateways (by pod UID) have to do with a backend now."""
        return load_of(backend, ready, leaving, self._gateways, self._clock())

    def progress(self, pod_uids: Iterable[str]) -> PullProgress | None:
        """The report of a pull by one of its pods; the newest wins."""
        reports = [r for uid in pod_uids if (r := self._pulls.get(uid)) is not None]
        return max(reports, key=lambda r: r.at).progress if reports else None
