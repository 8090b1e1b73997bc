"""When a token is worth asking for, for how long the model stays, and what a check by one token does to the health."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.failure import fault
from pointsman.domain.generation import FOREVER, LEFT_ALONE_INTERVALS, keep_alive, pause
from pointsman.domain.health import EndpointMachine, State, Thresholds
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import GenerationPolicy
from pointsman.domain.verdict import Why

POLICY = GenerationPolicy(interval=60.0, timeout=20.0, keep_alive=300.0)
NEVER = float("-inf")
OK = ProbeOutcome.OK


def machine(*, generation: bool = True) -> EndpointMachine:
    made = EndpointMachine(Thresholds(3, 2, generation), 0.0)
    made.probed(Probed(OK, 0.0, 1.0), 0.0)
    assert made.state is State.HEALTHY
    return made


def failed(m: EndpointMachine, now: float, outcome: ProbeOutcome = ProbeOutcome.TIMED_OUT) -> State:
    m.generated(Probed(outcome, now - 20, reason="GenerationTimeout", message="no token"), now)
    return m.state


def cheap(m: EndpointMachine, now: float) -> State:
    m.probed(Probed(OK, now, 1.0), now)
    return m.state


def test_it_is_due_when_nothing_proved_anything_for_an_interval() -> None:
    m = machine()
    assert pause(m, POLICY, 5.0, tried=0.0, now=10.0) == 50.0
    assert pause(m, POLICY, 5.0, tried=0.0, now=60.0) == 0.0
    m.succeeded("m", 10.0, 55.0)
    assert pause(m, POLICY, 5.0, tried=0.0, now=60.0) == 55.0, "a real answer is the best probe"
    m.begin()
    assert pause(m, POLICY, 5.0, tried=0.0, now=500.0) > 0, "what is under way will tell"


def test_after_a_failure_it_is_made_with_the_cheap_checks() -> None:
    m = machine()
    failed(m, 100.0)
    assert pause(m, POLICY, 5.0, tried=100.0, now=102.0) == 3.0


def test_failures_in_a_row_eject_and_only_a_token_brings_it_back() -> None:
    m = machine()
    assert [failed(m, t) for t in (100.0, 125.0, 150.0)] == [State.HEALTHY, State.HEALTHY, State.UNHEALTHY]
    assert (m.reason, m.message) == ("GenerationTimeout", "no token")
    for t in range(160, 260, 5):
        assert cheap(m, t) is State.UNHEALTHY, "a server that only listens proves nothing"
    m.generated(Probed(OK, 260.0, 30.0), 260.0)
    assert m.state is State.PROBATION
    assert not m.doubted


def test_an_answer_to_anybody_begins_the_count_anew() -> None:
    m = machine()
    failed(m, 100.0)
    failed(m, 125.0)
    m.succeeded("m", 10.0, 130.0)
    assert failed(m, 160.0) is State.HEALTHY
    m.advanced_at = 170.0
    assert failed(m, 180.0) is State.HEALTHY, "something advanced while it waited: busy, not dead"


def test_a_stalled_request_wants_a_token_too() -> None:
    m = machine()
    m.observe(fault(Why.FIRST_TOKEN_TIMEOUT), "m", "r", 100.0, waited_since=40.0)
    assert m.state is State.UNHEALTHY
    assert {cheap(m, t) for t in (105.0, 110.0, 115.0, 120.0)} == {State.UNHEALTHY}
    m.generated(Probed(OK, 121.0), 121.0)
    assert m.state is State.PROBATION


def test_without_the_check_a_stalled_endpoint_comes_back_by_cheap_checks() -> None:
    m = machine(generation=False)
    m.observe(fault(Why.FIRST_TOKEN_TIMEOUT), "m", "r", 100.0, waited_since=40.0)
    assert [cheap(m, t) for t in (105.0, 110.0)] == [State.UNHEALTHY, State.PROBATION]


def test_nothing_loaded_leaves_the_judgement_to_the_cheap_checks() -> None:
    m = machine()
    m.observe(fault(Why.FIRST_TOKEN_TIMEOUT), "m", "r", 100.0, waited_since=40.0)
    m.generated(Probed(ProbeOutcome.UNSUPPORTED, 101.0), 101.0)
    assert [cheap(m, t) for t in (105.0, 110.0)] == [State.UNHEALTHY, State.PROBATION]


def test_a_check_is_no_answer_of_traffic() -> None:
    """Else it would put off the next one's proof, and the time that Ollama keeps the model."""
    m = machine()
    m.generated(Probed(OK, 50.0, 5.0), 50.0)
    assert m.advanced_at == NEVER


def test_keep_alive_is_what_is_left() -> None:
    assert keep_alive(240.9, NEVER, POLICY, 1000.0) == 240
    assert keep_alive(121.0, NEVER, POLICY, 1000.0) == 121
    assert keep_alive(120.0, NEVER, POLICY, 1000.0) is None, "about to leave: left alone"
    assert keep_alive(1e10, NEVER, POLICY, 1000.0) == FOREVER
    assert keep_alive(-3.0, 990.0, POLICY, 1000.0) is None, "being unloaded"


def test_an_answer_gets_its_whole_time_back() -> None:
    """A check at 180 s of idleness told Ollama to keep it 120 s more; the answer after it deserves 300 s again."""
    assert keep_alive(60.0, 940.0, POLICY, 1000.0) == 240


@given(st.floats(1, 1e6), st.floats(0, 1e6), st.floats(1, 1e5), st.floats(1, 600))
def test_a_check_never_prolongs(left: float, ago: float, policy: float, interval: float) -> None:
    kept = keep_alive(left, -ago, GenerationPolicy(interval, 1.0, policy), 0.0)
    if kept is not None and kept != FOREVER:
        assert kept <= max(left, policy - ago)
        assert kept >= LEFT_ALONE_INTERVALS * interval - 1
