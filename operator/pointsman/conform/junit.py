"""A report as JUnit XML, as CI systems read it: one suite, one case a scenario. Pure."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from pointsman.conform.result import Outcome, Report, Result

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def junit(report: Report) -> str:
    """`not recovered` is an error (the scenario could not begin), `n/a` is skipped."""
    counts = report.counts
    seconds = sum(r.ms for r in report.results) / 1000
    numbers = (
        f'tests="{len(report.results)}" failures="{counts[Outcome.FAIL]}" errors="{counts[Outcome.NOT_RECOVERED]}"'
        f' skipped="{counts[Outcome.NOT_APPLICABLE]}" time="{seconds:.3f}"'
    )
    cases = "".join(_case(r) for r in report.results)
    about = f"name={_quoted(report.title)} timestamp={_quoted(report.when)} {numbers}"
    suite = f"  <testsuite {about}>\n{cases}  </testsuite>\n"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {numbers}>\n{suite}</testsuites>\n'


_ELEMENT = {Outcome.FAIL: "failure", Outcome.NOT_RECOVERED: "error", Outcome.NOT_APPLICABLE: "skipped"}


def _case(result: Result) -> str:
    s = result.scenario
    names = f"classname={_quoted('conform.' + s.group)} name={_quoted(s.name)}"
    head = f'    <testcase {names} time="{result.ms / 1000:.3f}"'
    element = _ELEMENT.get(result.outcome)
    if element is None:
        return head + "/>\n"
    return (
        f"{head}>\n      <{element} message={_quoted(f'{result.saw}; right is: {s.right.value}')}/>\n    </testcase>\n"
    )


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("?", text))
