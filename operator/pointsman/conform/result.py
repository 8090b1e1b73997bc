"""What became of a scenario, and of a whole run: values that the reports are written from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from pointsman.conform.scenario import Scenario


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "FAIL"
    NOT_RECOVERED = "not recovered"
    """The gateway did not use the first backend again in time, so that the scenario could not begin."""
    NOT_APPLICABLE = "n/a"


@dataclass(frozen=True)
class Result:
    scenario: Scenario
    outcome: Outcome
    saw: str
    """One sentence."""
    ms: float = 0.0
    """Of the slowest of its requests."""
    first: int = 0
    """Attempts that the first backend saw in all."""
    second: int = 0

    @property
    def good(self) -> bool:
        return self.outcome in (Outcome.PASS, Outcome.NOT_APPLICABLE)


@dataclass(frozen=True)
class Report:
    title: str
    """What was tested, such as `Pointsman 0.1.0`."""
    when: str
    """UTC, as ISO 8601 writes it."""
    timeout: float
    results: tuple[Result, ...]

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(r.outcome for r in self.results)

    @property
    def summary(self) -> str:
        """`81 pass, 2 FAIL`."""
        return ", ".join(f"{self.counts[o]} {o.value}" for o in Outcome if self.counts[o])
