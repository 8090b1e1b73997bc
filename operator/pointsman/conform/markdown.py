"""A report in Markdown: of one gateway, or of several side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from pointsman.conform.result import Outcome, Report, Result


def markdown(report: Report) -> str:
    """One gateway: what each scenario wants, and what was seen."""
    silent = f"gives up on a silent backend after {report.timeout:g} s" if report.timeout else "waits for ever"
    out = [f"# {report.title}: does its fallback fire?\n\n{report.when} · {report.summary} · {silent}\n"]
    for group, results in groupby(report.results, key=lambda r: r.scenario.group):
        out.append(f"\n## {group}\n\n")
        out.append("| fault of the first backend | right is | | seen | ms | asked |\n|---|---|---|---|---|---|\n")
        out += [_row(r) for r in results]
    return "".join(out)


def _row(result: Result) -> str:
    s = result.scenario
    ran = result.outcome in (Outcome.PASS, Outcome.FAIL)
    ms, asked = (f"{result.ms:.0f}", f"{result.first} + {result.second}") if ran else ("", "")
    cells = (f"{s.name}: {s.why}", s.right.value, result.outcome.value, result.saw, ms, asked)
    return "| " + " | ".join(_cell(c) for c in cells) + " |\n"


def compared(reports: Sequence[Report]) -> str:
    """Several gateways side by side. They ran the same scenarios; below the table stands what went wrong, for each."""
    titles = [_cell(r.title) for r in reports]
    out = [f"| fault of the first backend | right is | {' | '.join(titles)} |\n|---|---|{'---|' * len(titles)}\n"]
    by_name = [{r.scenario.name: r for r in report.results} for report in reports]
    for result in reports[0].results:
        s = result.scenario
        cells = [_short(found.get(s.name)) for found in by_name]
        out.append(f"| {_cell(s.name)} | {_cell(s.right.value)} | {' | '.join(cells)} |\n")
    out.append(f"| **in all** | | {' | '.join(r.summary for r in reports)} |\n")
    for report in reports:
        out += _failures(report)
    return "".join(out)


def _short(result: Result | None) -> str:
    if result is None:
        return ""
    return f"pass, {result.ms:.0f} ms" if result.outcome is Outcome.PASS else f"**{result.outcome.value}**"


def _failures(report: Report) -> Iterator[str]:
    bad = [r for r in report.results if not r.good]
    if bad:
        yield f"\n## {report.title}: what was seen instead\n\n"
        yield from (f"- {_cell(r.scenario.name)}: {_cell(r.saw)}\n" for r in bad)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
