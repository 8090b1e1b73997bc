"""The number of pods follows the requests: up while they last, down when they were not needed for a while, no flap."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.domain.scaling import Load, Policy, Scaler, length

POLICY = Policy(least=1, most=6, target=8)
ZERO = Policy(least=0, most=6, target=8, idle_after=600)


class Run:
    """A backend whose gateways tell every second; every decision is carried out at once."""

    def __init__(self, policy: Policy = POLICY, replicas: int = 1, start: float = 1000.0) -> None:
        self.policy = policy
        self.scaler = Scaler(replicas)
        self.scaler.warm_since = start if replicas else None
        self.now = start
        self.numbers: list[tuple[float, int]] = []
        self.whys: list[str] = []

    def say(self, requests: int, *, complete: bool = True, age: float | None = None, seconds: float = 0.0) -> int:
        """What the gateways say, now and each second of `seconds`. Gives the number after that."""
        until = self.now + seconds
        while True:
            load = Load(requests, 0, 0.0 if requests else age, complete)
            self.scaler.observe(load, self.policy, self.now)
            decision = self.scaler.decide(self.policy, self.now)
            if decision.replicas != self.scaler.replicas:
                assert decision.why
                self.whys.append(decision.why)
                if not self.scaler.replicas:
                    self.scaler.warm_since = self.now
                self.scaler.replicas = decision.replicas
                if not decision.replicas:
                    self.scaler.warm_since = None
            self.numbers.append((self.now, self.scaler.replicas))
            if self.now >= until:
                return self.scaler.replicas
            self.now += 1.0
            age = None if age is None else age + 1.0

    def later(self, seconds: float) -> None:
        self.now += seconds


def test_more_requests_than_the_target_bring_pods_step_by_step() -> None:
    run = Run()
    assert run.say(8, seconds=60) == 1
    assert run.say(20, seconds=16) == 3
    assert run.whys == ["1 → 2: 20 requests in flight or waiting, target 8 for each pod",
                        "2 → 3: 20 requests in flight or waiting, target 8 for each pod"]  # fmt: skip


def test_a_burst_of_a_second_brings_no_pod() -> None:
    run = Run()
    run.say(4, seconds=30)
    run.say(30)
    run.later(1)
    assert run.say(4, seconds=30) == 1


def test_pods_go_when_they_were_not_needed_for_the_whole_window() -> None:
    run = Run()
    run.say(24, seconds=30)
    assert run.say(8, seconds=290) == 3
    assert run.say(8, seconds=30) == 1
    assert run.whys[-1] == "2 → 1: more were not needed for 5m"


def test_pods_stay_while_what_is_in_flight_needs_them() -> None:
    run = Run(replicas=4)
    run.say(1, seconds=299)
    assert run.say(26) == 4


def test_pods_go_only_when_every_ready_gateway_has_just_told() -> None:
    run = Run(replicas=4)
    assert run.say(1, complete=False, seconds=1000) == 4
    assert run.say(1, seconds=1) == 1


def test_more_pods_come_even_when_a_gateway_is_silent() -> None:
    run = Run()
    assert run.say(20, complete=False, seconds=20) == 3


def test_a_new_operator_takes_no_pod_away_before_it_has_seen_a_whole_window() -> None:
    run = Run(replicas=5)
    assert run.say(3, seconds=299) == 5
    assert run.say(3, seconds=20) == 1


def test_a_new_operator_does_not_take_one_glance_for_a_lasting_load() -> None:
    run = Run(replicas=1)
    assert run.say(40) == 1
    assert run.say(40, seconds=16) == 5


def test_the_last_pod_goes_when_nobody_asked_for_long_enough() -> None:
    run = Run(ZERO)
    run.say(3, seconds=10)
    assert run.say(0, age=0.0, seconds=598) == 1
    assert run.say(0, age=598.0, seconds=3) == 0
    assert run.whys == ["1 → 0: no request for 10m"]


def test_it_stays_at_none_until_a_request_wants_it() -> None:
    run = Run(ZERO, replicas=0)
    assert run.say(0, seconds=50) == 0
    assert run.say(0, age=700.0, seconds=50) == 0
    assert run.say(0, age=0.1) == 1
    assert run.whys == ["0 → 1: a request wants it"]


def test_requests_that_wait_for_a_cold_backend_bring_as_many_pods_as_they_need() -> None:
    run = Run(ZERO, replicas=0)
    assert run.say(20) == 1
    assert run.say(20, seconds=16) == 3


def test_a_pod_that_has_not_become_ready_is_not_idle() -> None:
    run = Run(ZERO, replicas=0)
    run.say(0, age=0.0)
    run.scaler.warm_since = None
    assert run.say(0, age=0.0, seconds=3600) == 1
    run.scaler.warm_since = run.now  # the model is loaded at last
    assert run.say(0, age=3600.0, seconds=599) == 1
    assert run.say(0, age=4199.0, seconds=2) == 0


def test_the_last_pod_stays_while_a_gateway_is_silent() -> None:
    run = Run(ZERO)
    run.say(1)
    assert run.say(0, age=0.0, complete=False, seconds=2000) == 1


def test_what_an_engine_does_for_others_brings_pods_but_keeps_none() -> None:
    run = Run(ZERO)
    for _ in range(20):
        run.scaler.observe(Load(2, 14, 0.0, True), ZERO, run.now)
        run.scaler.replicas = run.scaler.decide(ZERO, run.now).replicas
        run.later(1)
    assert run.scaler.replicas == 2
    for _ in range(620):
        run.scaler.observe(Load(0, 4, None, True), ZERO, run.now)
        run.scaler.replicas = run.scaler.decide(ZERO, run.now).replicas
        run.later(1)
    assert run.scaler.replicas == 0


def test_all_pods_go_at_once_when_nobody_asks() -> None:
    run = Run(Policy(least=0, most=6, target=8, idle_after=60))
    assert run.say(40, seconds=20) == 5
    assert run.say(0, age=0.0, seconds=61) == 0


def test_a_changed_policy_holds_at_once() -> None:
    run = Run(replicas=4)
    run.say(1, seconds=20)
    run.policy = Policy(least=1, most=2, target=8)
    assert run.say(1, complete=False) == 2
    run.policy = Policy(least=3, most=5, target=8)
    assert run.say(1, complete=False) == 3
    assert run.whys == ["4 → 2: spec.autoscaling.maxReplicas is 2", "2 → 3: spec.autoscaling.minReplicas is 3"]


def test_it_says_when_to_look_again() -> None:
    run = Run(ZERO, start=0.0)
    run.say(0, age=100.0)
    run.later(20)
    run.scaler.observe(Load(0, 0, 120.0, True), ZERO, run.now)
    again = run.scaler.decide(ZERO, run.now).again
    assert again is not None
    assert again <= 300
    quiet = Run(ZERO, start=0.0)
    quiet.say(0, age=0.0, seconds=320)
    assert quiet.scaler.decide(ZERO, 320.0).again == 280.0


def test_lengths_for_people() -> None:
    assert [length(s) for s in (0.5, 15, 90, 3600, 3660)] == ["500ms", "15s", "1m30s", "1h", "1h1m"]


# ---- properties

policies = st.builds(
    lambda least, more, target, up, down: Policy(least, least + more, target, 600.0, up, down),
    st.integers(0, 3), st.integers(1, 8), st.integers(1, 16), st.sampled_from([0.0, 5.0, 15.0, 60.0]),
    st.sampled_from([0.0, 30.0, 300.0]),
)  # fmt: skip
traces = st.lists(st.tuples(st.floats(0.1, 120.0), st.integers(0, 100), st.booleans()), min_size=1, max_size=60)


def numbers(
    policy: Policy, start: int, trace: list[tuple[float, int, bool]], extra: int = 0
) -> list[tuple[float, int]]:
    scaler, now, out = Scaler(start), 1000.0, []
    scaler.warm_since = now
    for wait, requests, complete in trace:
        scaler.observe(Load(requests + extra, 0, 0.0 if requests + extra else None, complete), policy, now)
        scaler.replicas = scaler.decide(policy, now).replicas
        out.append((now, scaler.replicas))
        now += wait
    return out


@given(policies, st.integers(0, 12), traces)
def test_the_number_is_always_within_its_bounds(
    policy: Policy, start: int, trace: list[tuple[float, int, bool]]
) -> None:
    assert all(policy.least <= n <= policy.most for _, n in numbers(policy, start, trace))


@given(policies, st.integers(0, 12), traces, st.integers(1, 50))
def test_more_load_never_means_fewer_pods(
    policy: Policy, start: int, trace: list[tuple[float, int, bool]], extra: int
) -> None:
    less, more = numbers(policy, start, trace), numbers(policy, start, trace, extra)
    assert all(a <= b for (_, a), (_, b) in zip(less, more, strict=True))


@given(policies, st.integers(0, 12), st.integers(1, 100), st.lists(st.floats(0.1, 60.0), min_size=2, max_size=60))
def test_a_constant_load_moves_the_number_in_one_direction(
    policy: Policy, start: int, load: int, waits: list[float]
) -> None:
    found = [
        policy.clamp(start),
        *(n for _, n in numbers(policy, policy.clamp(start), [(w, load, True) for w in waits])),
    ]
    steps = {(b > a) - (b < a) for a, b in itertools.pairwise(found)} - {0}
    assert len(steps) <= 1


@given(policies, st.integers(1, 12), traces)
def test_a_number_that_was_reached_is_kept_for_the_whole_window(
    policy: Policy, start: int, trace: list[tuple[float, int, bool]]
) -> None:
    found = numbers(policy, policy.clamp(start), trace)
    for (_, a), (up_at, b) in itertools.pairwise(found):
        if b > a:
            after = [n for t, n in found if up_at <= t < up_at + policy.down_window]
            assert all(n >= b or n == 0 for n in after)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_thirty_minutes_of_bursts_do_not_make_it_flap(seed: int) -> None:
    """Bursts of 5 to 90 s, up to 48 requests at once, pauses of up to 3 min; noise; a report each second."""
    chance = random.Random(seed)
    run = Run(Policy(least=1, most=6, target=8))
    end = run.now + 1800
    while run.now < end:
        height = chance.randint(4, 48)
        for _ in range(chance.randint(5, 90)):
            run.say(max(0, height + chance.randint(-4, 4)))
            run.later(1)
        for _ in range(chance.randint(1, 180)):
            run.say(chance.randint(0, 3), age=0.0)
            run.later(1)
    steps = [(t, a, b) for (_, a), (t, b) in itertools.pairwise(run.numbers) if a != b]
    for (up_at, a, b), (down_at, c, d) in itertools.pairwise(steps):
        assert not (b > a and d < c) or down_at - up_at >= 300
