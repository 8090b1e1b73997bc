"""Which verdict does an answer with an error status get?

Decided here: how an error's body is read and matched with the rows of `recognised.py`. Not here: what happened to the
connection (`failure.py`) and what an answer under 2xx is worth (the dialects).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from pointsman.domain.recognised import ROWS, Row
from pointsman.domain.verdict import Judgement, Verdict, Why

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON from outside may raise: broken, not UTF-8, nested too deep."""
TEXT_BYTES = 4096
"""Of an error's body, this much is read for phrases."""


@dataclass(frozen=True)
class Said:
    """What an error says of itself, lower case; empty strings where it says nothing."""

    text: str
    """Its message, or the start of a body that is no JSON."""
    code: str = ""
    """Code, type and the like, joined with spaces."""
    param: str = ""
    status: int = 0
    """A numeric code within the body."""
    is_json: bool = False
    judged: Judgement | None = None
    """Its verdict, where the dialect knows it better than the words tell."""
    shown: bytes = b""
    """What a client may get of it, as the body of an answer; empty: the answer itself."""


_COMPILED = tuple((row, tuple(re.compile(p) for p in row.phrases)) for row in ROWS)
_ADDED = Judgement(Verdict.UNFIT, Why.ADDED_FIELD, "it does not know a field that we added")
_BY_ANSWER = frozenset((Why.SERVER_ERROR, Why.ERROR_EVENT))


def judge_status(
    status: int, body: bytes, content_type: str, retry_after: float | None, added: Collection[str] = ()
) -> Judgement:
    """The verdict on a whole answer that is not 2xx. `added` names the fields that we put into the request."""
    said = said_in(body)
    if status in (400, 422) and any(field in said.text or field in said.param for field in added):
        return _ADDED
    return _judge(status, said, "html" in content_type, retry_after)


def judge_said(said: Said | None) -> Judgement:
    """The verdict on an error that came under status 200: by what it says, as if it had come with the status that it
    names (500 when it names none)."""
    if said is not None:
        if said.judged is not None:
            return said.judged
        judged = _judge(said.status if 400 <= said.status < 600 else 500, said, False, None)
        if judged.why is not Why.SERVER_ERROR:
            return replace(judged, begun=True)
    return Judgement(Verdict.FAILURE, Why.ERROR_EVENT, "an error within its answer", by_answer=True, begun=True)


def _judge(status: int, said: Said, html: bool, retry_after: float | None) -> Judgement:
    for row, phrases in _COMPILED:
        if status in row.statuses and _fits(row, phrases, said, html):
            return Judgement(row.verdict, row.why, row.sentence, retry_after, by_answer=row.why in _BY_ANSWER)
    return Judgement(Verdict.FAILURE, Why.BROKEN_HTTP, f"it answered with status {status}", by_answer=True)


def _fits(row: Row, phrases: tuple[re.Pattern[str], ...], said: Said, html: bool) -> bool:
    if row.html and (not html or said.is_json):
        return False
    if not phrases and not row.codes:
        return True
    return any(c in said.code.split() for c in row.codes) or any(p.search(said.text) for p in phrases)


def said_in(body: bytes) -> Said:
    """Reads OpenAI's, Ollama's, vLLM's, FastAPI's and Anthropic's error shapes; any other body is its own text."""
    try:
        value: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return Said(body[:TEXT_BYTES].decode("utf-8", "replace").lower())
    if not isinstance(value, dict):
        return Said(str(value)[:TEXT_BYTES].lower(), is_json=True)
    error = value.get("error", value)
    if isinstance(error, str):
        return Said(error[:TEXT_BYTES].lower(), is_json=True)
    if not isinstance(error, dict):
        error = value
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    codes = [error.get(k) for k in ("code", "type", "status")]
    status = next((c for c in codes if isinstance(c, int) and not isinstance(c, bool)), 0)
    return Said(
        str(message)[:TEXT_BYTES].lower(),
        " ".join(c.lower() for c in codes if isinstance(c, str)),
        str(error.get("param") or "").lower(),
        status,
        is_json=True,
    )


def message_in(body: bytes) -> str:
    """The message of an error as it was written; empty when there is none to be found."""
    try:
        value: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return ""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail")
    return error[:TEXT_BYTES] if isinstance(error, str) else ""


def retry_after_seconds(value: str, unix_now: float) -> float | None:
    """`Retry-After` in seconds or as a date (RFC 9110 §10.2.3); None when it is neither."""
    value = value.strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return min(float(value), 86400.0)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, date.timestamp() - unix_now), 86400.0)
