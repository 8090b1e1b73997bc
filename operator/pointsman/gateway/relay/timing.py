"""`Server-Timing`: what each attempt of a request was and how long it took, for developer tools and tracing.

    server-timing: pm-1;desc="backend-a Failure/Refused";dur=0.4, pm-2;desc="backend-b";dur=210.3

Decided here: its form (W3C, Server Timing). The usual answer, of the first backend that was asked, has its line in
`roster.Lane`, ready but for the figure. `dur` is milliseconds: of a failed attempt until it was given up, of
the one that answered until its answer or its first content was there.
"""

from __future__ import annotations

from pointsman.domain.attempts import Tried

SHOWN = 16
"""Attempts at most; of more, the last ones."""


def timing(tried: list[Tried], backend: str, ms: float) -> bytes:
    """The whole line; `backend` and `ms` of the one that answered, empty when none did or it is among `tried`."""
    parts = [
        f'pm-{n};desc="{t.target.backend.name} {t.judged.verdict.value}/{t.judged.why.value}";dur={t.ms:.1f}'
        for n, t in enumerate(tried, 1)
    ]
    if backend:
        parts.append(f'pm-{len(tried) + 1};desc="{backend}";dur={ms:.1f}')
    return f"server-timing: {', '.join(parts[-SHOWN:])}\r\n".encode()
