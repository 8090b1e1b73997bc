"""The state machine of one endpoint: every way in and out of each state, and what must hold on any walk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.domain.failure import fault
from pointsman.domain.flags import (
    ANY_MODEL,
    BUSY_PAUSE_SECONDS,
    DENIED_LAST_SECONDS,
    MODEL_RETRY_SECONDS,
    RETRY_AFTER_MAX_SECONDS,
    Obstacle,
)
from pointsman.domain.health import FAILURE_BURDEN, EndpointMachine, State, Thresholds, Transition
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.score import WINDOW_SECONDS
from pointsman.domain.verdict import EMPTY, Judgement, Verdict, Why

FAILED = Judgement(Verdict.FAILURE, Why.SERVER_ERROR, "its server failed", by_answer=True)
RESET = fault(Why.RESET)
STALLED = fault(Why.FIRST_TOKEN_TIMEOUT)
BUSY = Judgement(Verdict.BUSY, Why.RATE_LIMITED)
LOADING = Judgement(Verdict.LOADING, Why.LOADING)
MISSING = Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND)
UNAUTHORIZED = Judgement(Verdict.DENIED, Why.UNAUTHORIZED)
FORBIDDEN = Judgement(Verdict.DENIED, Why.FORBIDDEN)
NEUTRAL = (
    Judgement(Verdict.CALLER, Why.BAD_REQUEST),
    Judgement(Verdict.UNFIT, Why.UNSUPPORTED),
    fault(Why.CLIENT_GONE),
    fault(Why.TOTAL_TIMEOUT),
)


class Bench:
    """A machine with a clock."""

    def __init__(self, failure: int = 3, success: int = 2) -> None:
        self.now = 1000.0
        self.machine = EndpointMachine(Thresholds(failure, success), self.now)
        self.transitions: list[Transition] = []
        self.requests = 0

    def keep(self, transition: Transition | None) -> None:
        if transition is not None:
            self.transitions.append(transition)

    def saw(self, judged: Judgement, request: str = "", waited: float = 1.0, model: str = "m", cred: str = "") -> None:
        self.requests += 1
        self.keep(
            self.machine.observe(
                judged, model, request or f"r{self.requests}", self.now, waited_since=self.now - waited, credential=cred
            )
        )

    def ok(self, model: str = "m") -> None:
        self.keep(self.machine.succeeded(model, 5.0, self.now))

    def probe(self, outcome: ProbeOutcome, times: int = 1, **more: object) -> None:
        for _ in range(times):
            self.keep(self.machine.probed(Probed(outcome, self.now - 0.5, **more), self.now))  # type: ignore[arg-type]

    @property
    def state(self) -> State:
        return self.machine.state

    def obstacle(self, model: str = "m", cred: str = "") -> Obstacle | None:
        found = self.machine.hindrance(model, cred, self.now)
        return found.obstacle if found else None


@pytest.fixture
def b() -> Bench:
    return Bench()


def test_unknown_counts_as_healthy(b: Bench) -> None:
    assert b.obstacle() is None
    b.ok()
    assert b.state is State.HEALTHY


def test_refused_connection_ejects_at_once(b: Bench) -> None:
    b.ok()
    b.saw(fault(Why.REFUSED))
    assert b.state is State.UNHEALTHY
    assert (b.machine.reason, b.machine.message) == ("Refused", "it refuses connections")


def test_five_in_a_row_eject(b: Bench) -> None:
    b.ok()
    for n in range(5):
        assert b.state is (State.HEALTHY if n < 2 else State.DEGRADED)
        b.saw(RESET)
    assert b.state is State.UNHEALTHY


def test_five_from_two_requests_do_not(b: Bench) -> None:
    for n in range(12):
        b.saw(RESET, f"r{n % 2}")
    assert b.state is State.DEGRADED


def test_half_of_ten_within_the_window_eject(b: Bench) -> None:
    for _ in range(4):
        b.ok()
        b.saw(RESET)
        b.ok()
        b.saw(RESET)
        b.now += 1
    assert b.state is State.UNHEALTHY


def test_failures_long_ago_do_not(b: Bench) -> None:
    for _ in range(40):
        b.ok()
        b.saw(RESET)
        b.now += 8
    assert b.state is not State.UNHEALTHY


def test_degraded_heals_by_real_answers(b: Bench) -> None:
    b.saw(RESET)
    b.saw(RESET)
    assert b.state is State.DEGRADED
    assert b.obstacle() is None
    for _ in range(8):
        b.ok()
    assert b.state is State.HEALTHY


def test_failing_endpoint_attracts_no_traffic(b: Bench) -> None:
    before = b.machine.burden(b.now)
    b.saw(RESET)
    assert b.machine.burden(b.now) > before


def test_who_has_not_failed_lately_gets_another_try(b: Bench) -> None:
    b.saw(RESET)
    b.now += WINDOW_SECONDS + 1
    assert b.machine.burden(b.now) == 0
    b.saw(RESET)
    assert b.machine.burden(b.now) == 2 * FAILURE_BURDEN


def test_stalled_ejects_when_nothing_advanced(b: Bench) -> None:
    b.saw(STALLED)
    assert b.state is State.UNHEALTHY


def test_stalled_is_neutral_while_another_request_advances(b: Bench) -> None:
    b.machine.advanced_at = b.now - 0.1
    b.saw(STALLED, waited=1.0)
    assert b.state is State.UNKNOWN


@pytest.mark.parametrize("judged", NEUTRAL, ids=lambda j: j.why.value)
def test_neutral_verdicts_change_nothing(judged: Judgement, b: Bench) -> None:
    for _ in range(20):
        b.saw(judged)
    assert b.state is State.UNKNOWN
    assert b.machine.clear


def test_busy_backend_is_not_ejected(b: Bench) -> None:
    for _ in range(20):
        b.saw(BUSY)
    assert b.state is State.UNKNOWN
    assert b.obstacle() is Obstacle.SATURATED
    assert b.obstacle("other") is None


def test_busy_pause_grows_and_is_bounded(b: Bench) -> None:
    pauses = []
    for _ in range(8):
        b.saw(BUSY)
        until = b.machine.flags.saturated["m"]
        pauses.append(until - b.now)
        b.now = until
        assert b.obstacle() is None
    assert pauses == pytest.approx([*BUSY_PAUSE_SECONDS, *[BUSY_PAUSE_SECONDS[-1]] * 3])
    b.ok()
    b.saw(BUSY)
    assert b.machine.flags.saturated["m"] - b.now == pytest.approx(BUSY_PAUSE_SECONDS[0])


@pytest.mark.parametrize(("asked", "given"), [(0.0, 0.0), (7.0, 7.0), (9999.0, RETRY_AFTER_MAX_SECONDS)])
def test_retry_after_is_heeded_and_clamped(asked: float, given: float, b: Bench) -> None:
    b.saw(Judgement(Verdict.BUSY, Why.RATE_LIMITED, retry_after=asked))
    b.now += given - 0.001
    assert b.obstacle() is (Obstacle.SATURATED if given else None)
    b.now += 0.002
    assert b.obstacle() is None


def test_loading_has_its_own_patience(b: Bench) -> None:
    b.saw(LOADING)
    assert b.obstacle() is Obstacle.LOADING
    b.ok()
    assert b.obstacle() is None


def test_missing_model_rests_for_half_a_minute_and_alone(b: Bench) -> None:
    b.saw(MISSING)
    assert b.obstacle() is Obstacle.MODEL_MISSING
    assert b.obstacle("other") is None
    b.now += MODEL_RETRY_SECONDS
    assert b.obstacle() is None
    assert b.machine.clear


def test_list_that_has_the_model_ends_its_absence(b: Bench) -> None:
    b.saw(MISSING)
    b.probe(ProbeOutcome.OK, missing=frozenset({"other"}))
    assert b.obstacle() is None
    assert b.obstacle("other") is Obstacle.MODEL_MISSING


def test_denied_doubles_and_is_cleared_by_another_credential(b: Bench) -> None:
    pauses = []
    for _ in range(6):
        b.saw(UNAUTHORIZED, cred="1")
        assert b.obstacle(cred="1") is Obstacle.DENIED
        assert b.obstacle(cred="2") is None
        until = b.machine.flags.denied["m"].until
        pauses.append(until - b.now)
        b.now = until
        assert b.obstacle(cred="1") is None, "a trial is due"
    assert pauses == [60, 120, 240, 480, DENIED_LAST_SECONDS, DENIED_LAST_SECONDS]
    b.ok()
    assert b.machine.clear


def test_forbidden_counts_after_three_requests(b: Bench) -> None:
    for _ in range(9):
        b.saw(FORBIDDEN, "same")
    assert b.obstacle() is None
    b.saw(FORBIDDEN)
    b.saw(FORBIDDEN)
    assert b.obstacle() is Obstacle.DENIED


def test_probes_eject_and_bring_back(b: Bench) -> None:
    b.probe(ProbeOutcome.FAILED, 2)
    b.probe(ProbeOutcome.OK)
    b.probe(ProbeOutcome.FAILED, 2)
    assert b.state is State.HEALTHY
    b.probe(ProbeOutcome.FAILED, reason="Refused", message="it refuses connections")
    assert (b.state, b.machine.reason) == (State.UNHEALTHY, "Refused")
    b.probe(ProbeOutcome.OK)
    assert b.state is State.UNHEALTHY
    b.probe(ProbeOutcome.OK)
    assert b.state is State.PROBATION


def test_probe_timeout_while_traffic_advances_is_neutral(b: Bench) -> None:
    b.machine.advanced_at = b.now
    b.probe(ProbeOutcome.TIMED_OUT, 10)
    assert b.state is State.UNKNOWN
    b.now += 10
    b.probe(ProbeOutcome.TIMED_OUT, 3)
    assert b.state is State.UNHEALTHY


def test_real_answers_outweigh_failing_probes(b: Bench) -> None:
    for _ in range(10):
        b.probe(ProbeOutcome.FAILED, 2)
        b.ok()
    assert b.state is State.HEALTHY


def test_unsupported_probe_says_nothing_but_that_it_answers(b: Bench) -> None:
    b.probe(ProbeOutcome.UNSUPPORTED, 5)
    assert b.state is State.UNKNOWN
    b.saw(fault(Why.REFUSED))
    b.probe(ProbeOutcome.UNSUPPORTED, 2)
    assert b.state is State.PROBATION


def test_busy_denied_and_loading_probes_raise_flags_for_all_models(b: Bench) -> None:
    b.probe(ProbeOutcome.BUSY, retry_after=5.0)
    assert b.obstacle("any") is Obstacle.SATURATED
    b.probe(ProbeOutcome.DENIED)
    assert b.obstacle("any") is Obstacle.DENIED
    assert ANY_MODEL in b.machine.flags.denied
    b.probe(ProbeOutcome.OK)
    assert b.obstacle("any") is Obstacle.SATURATED
    b.now += 6
    b.probe(ProbeOutcome.LOADING)
    assert b.obstacle("any") is Obstacle.LOADING
    assert b.state is State.HEALTHY


def test_ramp_doubles_and_ends_healthy(b: Bench) -> None:
    b.saw(fault(Why.REFUSED))
    b.probe(ProbeOutcome.OK, 2)
    admitted = []
    while b.state is State.PROBATION:
        trials = []
        while b.obstacle() is None:
            trials.append(b.machine.begin())
        assert all(trials)
        admitted.append(len(trials))
        for trial in trials:
            b.machine.end(trial)
            b.ok()
    assert admitted == [1, 2, 4, 8]
    assert b.state is State.HEALTHY
    assert b.machine.in_flight == b.machine.trials == 0


def test_relapse_wants_more_good_probes_each_time(b: Bench) -> None:
    wanted = []
    b.saw(fault(Why.REFUSED))
    for _ in range(6):
        probes = 0
        while b.state is State.UNHEALTHY:
            b.probe(ProbeOutcome.OK)
            probes += 1
        wanted.append(probes)
        b.saw(RESET)
        assert b.state is State.UNHEALTHY
    assert wanted == [2, 4, 8, 16, 16, 16]


def test_success_in_spite_of_all_leads_to_probation(b: Bench) -> None:
    b.saw(fault(Why.REFUSED))
    b.ok()
    assert b.state is State.PROBATION


def test_poison_request_is_withdrawn(b: Bench) -> None:
    for n in range(4):
        b.saw(EMPTY, f"r{n}")
    b.saw(EMPTY, "poison")
    assert b.state is State.UNHEALTHY
    b.keep(b.machine.withdraw("poison", b.now))
    assert b.state is State.DEGRADED
    for n in range(4):
        b.keep(b.machine.withdraw(f"r{n}", b.now))
    assert b.state is State.HEALTHY
    assert b.machine.burden(b.now) == 0


def test_connection_failures_are_never_withdrawn(b: Bench) -> None:
    b.saw(RESET, "poison")
    b.machine.withdraw("poison", b.now)
    assert b.machine.burden(b.now) > 0


MOVES = {
    State.UNKNOWN: {State.HEALTHY, State.DEGRADED, State.UNHEALTHY},
    State.HEALTHY: {State.DEGRADED, State.UNHEALTHY},
    State.DEGRADED: {State.HEALTHY, State.UNHEALTHY},
    State.UNHEALTHY: {State.PROBATION, State.UNKNOWN, State.HEALTHY, State.DEGRADED},
    State.PROBATION: {State.HEALTHY, State.UNHEALTHY},
}
JUDGED = st.sampled_from([FAILED, RESET, EMPTY, STALLED, BUSY, LOADING, MISSING, UNAUTHORIZED, FORBIDDEN, *NEUTRAL])
STEPS = st.one_of(
    st.tuples(st.just("saw"), JUDGED, st.integers(0, 6)),
    st.tuples(st.just("ok"), st.just(None), st.integers(0, 6)),
    st.tuples(st.just("probe"), st.sampled_from(list(ProbeOutcome)), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.just(None), st.integers(1, 700)),
    st.tuples(st.just("withdraw"), st.just(None), st.integers(0, 6)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_any_walk_keeps_the_promises(steps: list[tuple[str, object, int]]) -> None:
    b = Bench()
    before = b.state
    for kind, value, n in steps:
        told = len(b.transitions)
        if kind == "saw":
            assert isinstance(value, Judgement)
            b.saw(value, f"r{n}")
        elif kind == "ok":
            b.ok()
        elif kind == "probe":
            assert isinstance(value, ProbeOutcome)
            b.probe(value, n)
        elif kind == "wait":
            b.now += n / 10
        else:
            b.keep(b.machine.withdraw(f"r{n}", b.now))
        moved = b.transitions[told:]
        if kind != "probe" or n <= 1:
            assert len(moved) <= 1
        for t in moved:
            assert t.old is before
            assert t.new in MOVES[t.old], t
            assert t.new is not State.UNHEALTHY or t.reason
            if t.old is State.UNHEALTHY and t.new is not State.PROBATION:
                assert kind == "withdraw"
            before = t.new
        assert b.state is before, "every change of state is told"
        assert b.machine.since <= b.now
        found = b.machine.hindrance("m", "", b.now)
        if b.machine.clear:
            assert found is None, "the quick answer is the true one"
        if b.state is State.UNHEALTHY:
            assert found is not None
        if found is not None and found.until is not None:
            assert b.now < found.until <= b.now + DENIED_LAST_SECONDS
    b.now += 10_000
    if b.state not in (State.UNHEALTHY, State.PROBATION):
        assert b.machine.hindrance("m", "", b.now) is None, "every flag ends by itself"
    for _ in range(64):
        b.probe(ProbeOutcome.OK)
    for _ in range(20):
        b.ok()
    assert b.state in (State.HEALTHY, State.DEGRADED)
    assert b.machine.hindrance("m", "", b.now) is None, "from everywhere there is a way back"
