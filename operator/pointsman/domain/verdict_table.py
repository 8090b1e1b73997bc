"""The whole table of verdicts as rows of text: what the user's documentation prints.

Decided here: nothing. The rows are those that decide: `failure.FAULTS`, `recognised.ROWS`, and what the dialects say of
an answer under 2xx.
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.domain.failure import FAULTS
from pointsman.domain.recognised import ROWS, Row
from pointsman.domain.verdict import EMPTY, FORGOTTEN, INCOMPLETE, Verdict, Why


@dataclass(frozen=True)
class TableRow:
    verdict: Verdict
    why: Why
    seen: str
    """What was seen of the backend, as a sentence about it: `it …`."""
    when: str
    """The statuses, codes and phrases that make it so; empty when it is about the connection or the form."""
    who: str


def verdict_table() -> list[TableRow]:
    """Every way for an attempt to end but Success, in the order of the verdicts."""
    rows = [TableRow(j.verdict, j.why, j.sentence, "", "any") for j in (*FAULTS.values(), EMPTY, FORGOTTEN, INCOMPLETE)]
    rows += [TableRow(r.verdict, r.why, r.sentence, _when(r), r.who) for r in ROWS]
    order = list(Verdict)
    return sorted(rows, key=lambda r: order.index(r.verdict))


def _when(row: Row) -> str:
    statuses = row.statuses
    text = f"{statuses.start // 100}xx" if isinstance(statuses, range) else ", ".join(map(str, statuses))
    if row.html:
        text += " with HTML"
    if row.codes:
        text += f"; code {', '.join(row.codes)}"
    if row.phrases:
        text += f"; text like {' · '.join(row.phrases)}"
    return text
