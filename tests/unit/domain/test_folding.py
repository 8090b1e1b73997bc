"""What several gateways' reports amount to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.folding import (
    PENDING_SECONDS,
    Gateways,
    Received,
    fold_backend,
    fold_route,
    gateways,
    rounded,
    told_latency,
)
from pointsman.domain.report import (
    SILENT_AFTER_SECONDS,
    BackendHealth,
    FallbackEvent,
    GatewayReport,
    RouteReport,
    TargetState,
)


def says(state: str, generation: int = 1, latency: float | None = None, message: str = "") -> GatewayReport:
    health = BackendHealth(name="b", generation=generation, state=state, message=message, latency_ms=latency)
    return GatewayReport(gateway="g", at=0.0, backends=(health,))


def view(*reports: GatewayReport | None) -> Gateways:
    """One ready gateway for each; None has not reported."""
    names = tuple(f"g{i}" for i in range(len(reports)))
    return Gateways(names, {n: r for n, r in zip(names, reports, strict=True) if r is not None})


@pytest.mark.parametrize(
    ("states", "was_up", "up"),
    [
        ([], None, None),
        (["Unknown"], True, None),
        (["Healthy"], None, True),
        (["Unhealthy"], True, False),
        (["Healthy", "Unhealthy"], None, True),
        (["Healthy", "Unhealthy"], True, True),
        (["Healthy", "Unhealthy"], False, False),
        (["Unhealthy", "Unhealthy", "Healthy"], True, False),
        (["Degraded", "Probation", "Unhealthy"], False, True),
        (["Unknown", "Unhealthy"], True, False),
        (["Glorious", "Unhealthy"], True, False),
    ],
)
def test_majority_rules_and_a_tie_keeps_what_was_said(states: list[str], was_up: bool | None, up: bool | None) -> None:
    assert fold_backend("b", 1, view(*map(says, states)), was_up).up is up


def test_dissent_stands_in_the_message() -> None:
    health = fold_backend("b", 1, view(says("Healthy"), says("Healthy"), says("Unhealthy", message="refused")), None)
    assert health.up
    assert health.message == "1 of 3 gateways say it is unhealthy: refused"


def test_judgement_of_another_generation_is_none() -> None:
    assert fold_backend("b", 2, view(says("Healthy", generation=1)), True).up is None


def test_silent_and_unready_gateways_do_not_count() -> None:
    received = {
        "fresh": Received(says("Healthy"), 100.0),
        "silent": Received(says("Unhealthy"), 100.0 - SILENT_AFTER_SECONDS - 0.1),
        "unready": Received(says("Unhealthy"), 100.0),
    }
    counted = gateways(["fresh", "silent"], received, {}, 100.0)
    assert set(counted.reports) == {"fresh"}
    assert counted.ready == ("fresh", "silent")


def test_first_reports_are_waited_for_but_not_for_long() -> None:
    first: Mapping[str, float] = {"g": 50.0}
    assert gateways(["g"], {}, first, 50.0 + PENDING_SECONDS).pending
    assert not gateways(["g"], {}, first, 50.1 + PENDING_SECONDS).pending
    assert not gateways(["g"], {"g": Received(says("Healthy"), 50.0)}, first, 51.0).pending


@given(st.lists(st.sampled_from(["Healthy", "Degraded", "Unhealthy", "Unknown"]), max_size=7), st.randoms())
def test_order_of_gateways_does_not_matter(states: list[str], chance: object) -> None:
    one = fold_backend("b", 1, view(*map(says, states)), True)
    chance.shuffle(states)  # type: ignore[attr-defined]
    assert fold_backend("b", 1, view(*map(says, states)), True) == one


def route(serving: bool = True, generation: int = 1, states: tuple[str, ...] = ("Ready", "Ready"), at: float = 0.0,
          ) -> GatewayReport:  # fmt: skip
    targets = tuple(TargetState(backend=b, model="m", state=s) for b, s in zip("ab", states, strict=True))
    last = FallbackEvent(at=at, from_backend="a", to_backend="b", reason="Failure") if at else None
    report = RouteReport(name="r", generation=generation, serving=serving, targets=targets, last_fallback=last)
    return GatewayReport(gateway="g", at=0.0, routes=(report,))


TARGETS = [("a", "m"), ("b", "m")]


@pytest.mark.parametrize(
    ("reports", "serving", "cause"),
    [
        ([], False, "GatewayNotReady"),
        ([route(), route()], True, "Serving"),
        ([route(), None], None, "NoReport"),
        ([route(), route(generation=0)], False, "OldGeneration"),
        ([route(), GatewayReport(gateway="g", at=0.0)], False, "OldGeneration"),
        ([route(), route(serving=False)], False, "NoUsableTarget"),
        ([route(serving=False), None], False, "NoUsableTarget"),
    ],
)
def test_route_serves_only_if_every_ready_gateway_serves_it(
    reports: list[GatewayReport | None], serving: bool | None, cause: str
) -> None:
    folded = fold_route("r", 1, TARGETS, view(*reports))
    assert (folded.serving, folded.cause) == (serving, cause)
    assert bool(folded.message) is not (serving is True)


def test_targets_are_those_of_the_spec_whatever_gateways_say() -> None:
    odd = RouteReport(
        name="r", generation=1, serving=True, targets=(TargetState(backend="z", model="m", state="Ready"),)
    )
    folded = fold_route("r", 1, TARGETS, view(GatewayReport(gateway="g", at=0.0, routes=(odd,))))
    assert [(t.backend, t.state) for t in folded.targets] == [("a", "Unknown"), ("b", "Unknown")]
    mixed = fold_route(
        "r", 1, TARGETS, view(route(states=("Ready", "Unhealthy")), route(states=("Ready", "Unhealthy")))
    )
    assert [t.state for t in mixed.targets] == ["Ready", "Unhealthy"]


def test_newest_fallback_wins() -> None:
    folded = fold_route("r", 1, TARGETS, view(route(at=5.0), route(at=9.0), route()))
    assert folded.last_fallback is not None
    assert folded.last_fallback.at == 9.0


@given(st.floats(0.1, 60_000))
def test_latency_is_rounded_but_not_by_much(value: float) -> None:
    shown = rounded(value)
    assert shown is not None
    assert shown >= 1
    assert value / 2 <= shown + 0.5
    assert shown <= value * 2 + 1


@given(st.floats(0.1, 60_000), st.integers(1, 60_000))
def test_what_was_said_of_a_latency_stays_while_it_is_about_right(value: float, said: int) -> None:
    shown = told_latency(value, said)
    assert told_latency(value, shown) == shown, "saying it again changes nothing"
    assert shown is not None
    if shown != said:
        assert shown == rounded(value)
        assert max(value, said) > 20
    else:
        assert max(value, said) <= 20 or 0.5 <= value / said <= 2.0 or min(value, said) < 10


def test_a_first_latency_is_told_and_a_lost_one_forgotten() -> None:
    assert told_latency(123.0, None) == 150
    assert told_latency(None, 150) is None
    assert told_latency(1.0, 7) == 7, "noise"
    assert told_latency(80.0, 7) == 70
