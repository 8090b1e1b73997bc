"""The operator's leader ends as a crash does while the number of pods follows a burst, and just before a request comes
that finds no pod: nobody is lost, and the next leader goes on with the number that it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.bursts import leader, trace
from tests.bursts.judge import findings
from tests.bursts.run import Pace, play
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh

PACE = Pace(up=6, down=30, idle=20, drain=30)
TRACE = trace.of(4, [("burst", 35), ("lull", 80), ("burst", 20)])
FIRST, SECOND = TRACE.phases[0], TRACE.phases[2]
KILLS = [FIRST.begins + 10, SECOND.begins - 1]


@pytest.fixture
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("leaders"))
    asyncio.run(leader.operators(scene, 2))
    scene.make_namespace()
    yield scene
    scene.remove_namespace()
    asyncio.run(leader.operators(scene, 1))


def test_nobody_is_lost_and_the_number_does_not_flap_when_the_leader_dies_in_a_burst_and_at_none(scene: Stage) -> None:
    outcome = asyncio.run(play(scene, TRACE, KILLS, PACE))
    changes = [(round(c.at - outcome.began), c.before, c.after) for c in outcome.changes]
    slowest = max(s.seconds - r.seconds for r, s in outcome.seen)
    print(f"{len(outcome.seen)} answers, {changes}; killed at {KILLS}, led again after"
          f" {[round(s) for _, s in outcome.takeovers]} s; waited {slowest:.0f} s at most")  # fmt: skip
    assert findings(outcome) == []
    assert max(after for _, _, after in changes) > 1, "the burst brought more pods"
    none = [at for at, _, after in changes if not after]
    assert any(at < SECOND.begins for at in none), "there was none when the second leader died"
