"""The reports, to the letter."""

from __future__ import annotations

from tests.conform import publish

from pointsman.conform.junit import junit
from pointsman.conform.markdown import compared, markdown
from pointsman.conform.result import Outcome, Report, Result
from pointsman.conform.scenario import Right, Scenario
from pointsman.simulator.behaviour import says

ONE = Scenario("500 (json)", "Status", Right.FALLBACK, "the engine failed", (says,))
TWO = Scenario("302 (json)", "Status", Right.FALLBACK, "never followed", (says,))
CUT = Scenario("cut mid-content", "Stream", Right.BREAK, "a pod killed", (says,), stream=True)
HANG = Scenario("silence", "Stream", Right.FALLBACK, "the GPU hangs", (says,), stream=True, silent=1)

REPORT = Report(
    "Peer 1.0",
    "2026-11-22",
    0.0,
    (
        Result(ONE, Outcome.PASS, "200, whole, of the second", 12.4, 1, 1),
        Result(TWO, Outcome.NOT_RECOVERED, "the first backend got no traffic"),
        Result(CUT, Outcome.FAIL, 'the client got "a|b<c>"\x00', 20.0, 1, 0),
        Result(HANG, Outcome.NOT_APPLICABLE, "it waits for ever"),
    ),
)

MARKDOWN = """\
# Peer 1.0: does its fallback fire?

2026-11-22 · 1 pass, 1 FAIL, 1 not recovered, 1 n/a · waits for ever

## Status

| fault of the first backend | right is | | seen | ms | asked |
|---|---|---|---|---|---|
| 500 (json): the engine failed | the second backend's answer, whole and once | pass | 200, whole, of the second | 12 | 1 + 1 |
| 302 (json): never followed | the second backend's answer, whole and once | not recovered | the first backend got no traffic |  |  |

## Stream

| fault of the first backend | right is | | seen | ms | asked |
|---|---|---|---|---|---|
| cut mid-content: a pod killed | what had come, then an error event, no [DONE]; never an answer spliced on | FAIL | the client got "a\\|b&lt;c>"\x00 | 20 | 1 + 0 |
| silence: the GPU hangs | the second backend's answer, whole and once | n/a | it waits for ever |  |  |
"""  # noqa: E501

JUNIT = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" errors="1" skipped="1" time="0.032">
  <testsuite name="Peer 1.0" timestamp="2026-11-22" tests="4" failures="1" errors="1" skipped="1" time="0.032">
    <testcase classname="conform.Status" name="500 (json)" time="0.012"/>
    <testcase classname="conform.Status" name="302 (json)" time="0.000">
      <error message="the first backend got no traffic; right is: the second backend's answer, whole and once"/>
    </testcase>
    <testcase classname="conform.Stream" name="cut mid-content" time="0.020">
      <failure message='the client got "a|b&lt;c&gt;"?; right is: what had come, then an error event, no [DONE]; never an answer spliced on'/>
    </testcase>
    <testcase classname="conform.Stream" name="silence" time="0.000">
      <skipped message="it waits for ever; right is: the second backend's answer, whole and once"/>
    </testcase>
  </testsuite>
</testsuites>
"""  # noqa: E501


def test_markdown() -> None:
    assert markdown(REPORT) == MARKDOWN


def test_junit() -> None:
    assert junit(REPORT) == JUNIT


def test_side_by_side() -> None:
    ours = Report("Ours", "2026-11-22", 1.0, tuple(Result(r.scenario, Outcome.PASS, "", 3.0) for r in REPORT.results))
    lines = compared([ours, REPORT]).splitlines()
    assert lines[0] == "| fault of the first backend | right is | Ours | Peer 1.0 |"
    assert lines[2] == "| 500 (json) | the second backend's answer, whole and once | pass, 3 ms | pass, 12 ms |"
    assert lines[3].endswith("| pass, 3 ms | **not recovered** |")
    assert lines[6] == "| **in all** | | 4 pass | 1 pass, 1 FAIL, 1 not recovered, 1 n/a |"
    assert lines[8] == "## Peer 1.0: what was seen instead"
    assert lines[10:] == [
        "- 302 (json): the first backend got no traffic",
        '- cut mid-content: the client got "a\\|b&lt;c>"\x00',
    ]


def test_the_published_page_is_what_its_runs_say() -> None:
    assert publish.PAGE.read_text() == publish.page()
    ours = publish.read(publish.HERE / "results" / "pointsman.xml")
    assert all(r.good for r in ours.results)
