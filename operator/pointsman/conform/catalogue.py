"""All scenarios, in the order in which they are run: those that a gateway may rightly remember for long come last."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pointsman.conform.answer_scenarios import BODIES, LINGERING, STATUSES
from pointsman.conform.connection_scenarios import CONNECTION, ODD
from pointsman.conform.joint_scenarios import JOINT, LAST
from pointsman.conform.option_scenarios import OPTIONS
from pointsman.conform.scenario import Right, Scenario
from pointsman.conform.stream_scenarios import STREAMS
from pointsman.simulator.behaviour import says

GOOD: list[Scenario] = [
    Scenario(f"no fault ({kind})", "Odd but whole", Right.FIRST, "the ground truth", (says,), stream=kind == "stream")
    for kind in ("json", "stream")
]

SCENARIOS: tuple[Scenario, ...] = (*GOOD, *ODD, *CONNECTION, *STATUSES, *BODIES, *STREAMS, *JOINT, *LINGERING, *LAST)


def chosen(patterns: tuple[str, ...], option: str | None = None) -> list[Scenario]:
    """Those whose slug or name one of `patterns` (shell style) matches; all without patterns. With `option` those that
    it is about."""
    scenarios = SCENARIOS if option is None else OPTIONS[option]
    if not patterns:
        return list(scenarios)
    return [s for s in scenarios if any(fnmatchcase(s.slug, p) or fnmatchcase(s.name, p) for p in patterns)]
