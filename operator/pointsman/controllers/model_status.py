"""How far each model is: pulls and their reports → `status.models`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pointsman.api.backend_status import ModelStatus
from pointsman.api.conditions import Reason
from pointsman.controllers.conditions import Verdict, timestamp
from pointsman.controllers.plan_pulls import Pull
from pointsman.domain.figures import Figures
from pointsman.domain.report import PullProgress
from pointsman.models.errors import PullReason

State = Literal["Pending", "Pulling", "Verifying", "Pulled", "Failed", "Served"]


@dataclass(frozen=True)
class ModelView:
    """A model's status, and why it failed."""

    status: ModelStatus
    reason: Reason | None = None
    permanent: bool = False
    figures: Figures | None = None
    """What a pull read of it, where its outcome is still there."""


def view(pull: Pull, progress: PullProgress | None, pod_trouble: str, now: float) -> ModelView:
    """`pod_trouble`: what is wrong with the pull's pod; empty when nothing is. `now`: Unix seconds."""
    base = {"name": pull.model.name, "source": pull.model.source or "", "pull": pull.name}
    end = pull.end
    if not pull.model.source:
        return waiting(base, "Served", "served")
    if pull.unfit:
        return failed(base, PullReason.NOT_A_MODEL, pull.unfit, permanent=True)
    if end is not None and end.complete and end.outcome is not None:
        done = pulled(base, end.outcome.digest, end.outcome.total_bytes, timestamp(end.at))
        return replace(done, figures=end.outcome.figures)
    if (known := pull.known) is not None:  # what is in the volume stays there, whatever becomes of the Job
        trouble = f"not refreshed: {end.outcome.message}" if end and end.outcome and not end.complete else ""
        return pulled(base, known.digest, known.size_bytes, known.checked_at, trouble)
    if end is not None and not end.complete:
        outcome = end.outcome
        message = outcome.message if outcome else "the pull's pod ended without a word"
        again = "" if end.permanent else f" (tried again at {timestamp(end.again_at)})"
        return failed(base, outcome.reason if outcome else "", message + again, permanent=end.permanent)
    if pull.job is None and pull.missing:
        return without_secret(base, pull.missing)
    if pull.job is None:
        return waiting(base, "Pending", "waiting", pull.waiting)
    if progress is not None and progress.state in ("Pulling", "Verifying", "Pulled"):
        if progress.state == "Pulled" and progress.digest:
            return pulled(base, progress.digest, progress.total_bytes, timestamp(now))
        return pulling(base, progress)
    if progress is not None and progress.state == "Failed":
        return failed(base, progress.reason, f"{progress.message} (trying again)")
    if pod_trouble:
        return ModelView(
            ModelStatus(**base, state="Pending", message=pod_trouble, progress="waiting"), Reason.PULL_FAILED
        )
    return pulling(base, None)


def models_pulled(views: Sequence[ModelView]) -> Verdict:
    """The condition ModelsPulled: a failure first, then what is under way, then what waits."""
    if failed := [v for v in views if v.reason is not None]:
        first = next((v for v in failed if v.permanent), failed[0])
        assert first.reason is not None
        return Verdict(False, first.reason, f"model {first.status.name}: {first.status.message}")
    if busy := [v.status for v in views if v.status.state in ("Pulling", "Verifying")]:
        return Verdict(False, Reason.PULLING, f"pulling {', '.join(m.name for m in busy)}")
    if waiting := [v.status for v in views if v.status.state == "Pending"]:
        return Verdict(False, Reason.WAITING_FOR_POD, f"model {waiting[0].name}: {waiting[0].message}")
    if all(v.status.state == "Served" for v in views):
        return Verdict(True, Reason.NOTHING_TO_PULL)
    return Verdict(True, Reason.PULLED, "")


def summary(models: Iterable[ModelStatus]) -> str:
    """For printer columns: the progress of the pull with the most left to do, else `2/3`."""
    known = list(models)
    busy = [m for m in known if m.state in ("Pulling", "Verifying")]
    if busy:
        longest = max(busy, key=lambda m: m.total_bytes - m.completed_bytes)
        return longest.progress or longest.state.lower()
    return f"{sum(1 for m in known if m.state in ('Pulled', 'Served'))}/{len(known)}"


def size(count: float) -> str:
    """Bytes for people: `4.7 GB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def waiting(base: Mapping[str, str], state: State, progress: str, message: str = "") -> ModelView:
    """Nothing has been fetched, or nothing is to be."""
    return ModelView(ModelStatus(**base, state=state, progress=progress, message=message))


def without_secret(base: Mapping[str, str], message: str) -> ModelView:
    """Nothing has been fetched, and nothing can be: the Secret of the source does not exist."""
    return replace(waiting(base, "Pending", "waiting", message), reason=Reason.SECRET_MISSING, permanent=True)


def failed(base: Mapping[str, str], reason: str, message: str, *, permanent: bool = False) -> ModelView:
    """`reason`: a `PullReason`. The words of pulls that are reasons of conditions too are kept; the others are a plain
    failure whose message says more."""
    try:
        word = Reason(reason)
    except ValueError:
        word = Reason.PULL_FAILED
    return ModelView(ModelStatus(**base, state="Failed", message=message, progress="failed"), word, permanent)


def pulled(base: Mapping[str, str], digest: str, bytes_: int, checked_at: str = "", message: str = "") -> ModelView:
    return ModelView(
        ModelStatus(
            **base, state="Pulled", digest=digest, size_bytes=bytes_, completed_bytes=bytes_, total_bytes=bytes_,
            progress=f"pulled, {size(bytes_)}" if bytes_ else "pulled", checked_at=checked_at, message=message,
        )
    )  # fmt: skip


def pulling(base: Mapping[str, str], progress: PullProgress | None) -> ModelView:
    """`progress`: the last report; None before the first."""
    if progress is None:
        return ModelView(ModelStatus(**base, state="Pulling", progress="starting"))
    text = "starting"
    if progress.total_bytes:
        percent = 100 * progress.completed_bytes // progress.total_bytes
        text = f"{percent} % of {size(progress.total_bytes)}"
    if progress.bytes_per_second:
        text += f", {size(progress.bytes_per_second)}/s"
    if progress.eta_seconds is not None:
        text += f", {_duration(progress.eta_seconds)} left"
    state: State = "Pulling"
    if progress.state == "Verifying":
        state, text = "Verifying", "verifying"
    return ModelView(
        ModelStatus(
            **base,
            state=state,
            digest="",  # a digest in the status means that the model is there
            completed_bytes=progress.completed_bytes,
            total_bytes=progress.total_bytes,
            bytes_per_second=progress.bytes_per_second,
            eta_seconds=progress.eta_seconds,
            progress=text,
        )
    )


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
