"""What several gateways have to do with one backend, added up."""

from __future__ import annotations

from pointsman.domain.folding import JUST_NOW_SECONDS, Received, load_of
from pointsman.domain.report import SILENT_AFTER_SECONDS, BackendHealth, EndpointHealth, GatewayReport
from pointsman.domain.scaling import Load

NOW = 10_000.0


def told(
    *in_flight: int, waiting: int = 0, active_at: float = 0.0, ago: float = 0.0, inside: int | None = None
) -> Received:
    """A report `ago` seconds old; its gateway's own clock is 500 s ahead."""
    endpoints = tuple(
        EndpointHealth(address=f"10.0.0.{i}:80", state="Healthy", in_flight=n, running=inside)
        for i, n in enumerate(in_flight)
    )
    health = BackendHealth(
        name="b", generation=1, state="Healthy", endpoints=endpoints, waiting=waiting, active_at=active_at
    )
    return Received(GatewayReport(gateway="g", at=NOW + 500 - ago, backends=(health,)), NOW - ago)


def test_everything_of_every_gateway_is_added_up() -> None:
    assert load_of("b", ["g", "h"], [], {"g": told(3, 4), "h": told(1, 0, waiting=5)}, NOW) == Load(13, 0, 0.0, True)


def test_one_that_leaves_counts_but_is_not_waited_for() -> None:
    assert load_of("b", ["g"], ["old"], {"g": told(1), "old": told(6)}, NOW) == Load(7, 0, 0.0, True)
    assert load_of("b", ["g"], ["old"], {"g": told(1)}, NOW) == Load(1, 0, 0.0, True)


def test_a_ready_gateway_that_is_silent_late_or_new_makes_it_incomplete() -> None:
    assert not load_of("b", ["g", "h"], [], {"g": told(1)}, NOW).complete
    late = told(1, ago=JUST_NOW_SECONDS + 1)
    assert load_of("b", ["g", "h"], [], {"g": told(1), "h": late}, NOW) == Load(2, 0, 0.0, False)
    silent = told(1, ago=SILENT_AFTER_SECONDS + 1)
    assert load_of("b", ["g", "h"], [], {"g": told(1), "h": silent}, NOW) == Load(1, 0, 0.0, False)
    assert not load_of("other", ["g"], [], {"g": told(1)}, NOW).complete, "it does not know the backend yet"
    assert load_of("b", [], [], {}, NOW) == Load(), "without a gateway nobody knows"


def test_activity_is_told_by_age_so_that_clocks_may_differ() -> None:
    quiet = told(0, active_at=NOW + 500 - 40, ago=10)  # 30 s before the report, which came 10 s ago
    assert load_of("b", ["g"], [], {"g": quiet}, NOW).active_age == 40.0
    both = {"g": quiet, "h": told(0, active_at=NOW + 500 - 7)}
    assert load_of("b", ["g", "h"], [], both, NOW).active_age == 7.0
    assert load_of("b", ["g"], [], {"g": told(0)}, NOW).active_age is None


def test_what_engines_tell_beyond_that_is_the_work_of_others() -> None:
    both = {"g": told(3, 0, inside=8), "h": told(2, 0, inside=7)}
    assert load_of("b", ["g", "h"], [], both, NOW) == Load(5, 11, 0.0, True)
    assert load_of("b", ["g"], [], {"g": told(9, inside=8)}, NOW).elsewhere == 0, "what it told is older"


def test_a_gateway_that_lies_takes_nothing_from_the_others() -> None:
    assert load_of("b", ["g", "h"], [], {"g": told(4), "h": told(-100)}, NOW).requests == 4
