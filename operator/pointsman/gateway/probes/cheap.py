"""A cheap check of one endpoint: what is asked of which engine, and what the answer says.

Decided here: that. Not here: when (`prober.py`), how a request travels (`client.py`), what it does to the endpoint's
health (`domain/health.py`).

- Ollama: `/api/version`, then `/api/tags`: which models are there.
- External: the list of models, with the backend's credential. What it lists proves nothing about a model (many list
  only some); 404 and 405 mean that the server does not know the path, not that it is ill.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from pointsman.api.engine import Engine
from pointsman.domain.book import missing_from
from pointsman.domain.judging import UNREADABLE
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.verdict import Why
from pointsman.gateway.probes.client import ProbeClient, Unanswered
from pointsman.gateway.upstream.tunnel import refusal

LIST_LIMIT = 4 << 20
"""Bytes of the longest list of models that is read."""
_ERROR_LIMIT = 2048

_O = ProbeOutcome


async def probe(client: ProbeClient, backend: Backend, endpoint: Endpoint) -> Probed:
    """One check. Never raises but for a bug."""
    started = client.clock()
    try:
        async with client.within(backend.probe.timeout):
            if backend.engine is Engine.OLLAMA:
                found = await _ask(client, backend, endpoint, "/api/version", started)
                if found.outcome is _O.OK:
                    found = await _ask(client, backend, endpoint, "/api/tags", started)
                return found
            return await _ask(client, backend, endpoint, f"{endpoint.base_path}/models", started)
    except Unanswered as error:
        if error.timed_out:
            message = f"no answer to its check within {backend.probe.timeout:g} s"
            return Probed(_O.TIMED_OUT, started, reason="ProbeTimeout", message=message)
        return Probed(_O.FAILED, started, reason=error.why.value, message=error.sentence)


async def _ask(client: ProbeClient, backend: Backend, endpoint: Endpoint, path: str, started: float) -> Probed:
    answer = await client.request(backend, endpoint, "GET", path, LIST_LIMIT, _ERROR_LIMIT)
    return check_of(backend, answer.status, answer.headers, answer.body, started, (answer.at - started) * 1000)


def check_of(
    backend: Backend, status: int, headers: Mapping[str, str], body: bytes, started: float, latency_ms: float
) -> Probed:
    """What an answer to a check says. Pure but for the date in a `Retry-After`."""
    if status == 200:
        try:
            listed = msgspec.json.decode(body)
        except UNREADABLE:
            message = "what it answers to its check is not JSON: check the URL"
            return Probed(_O.FAILED, started, reason=Why.NOT_JSON.value, message=message)
        return Probed(_O.OK, started, latency_ms, missing=_missing(backend, listed))
    said = f"it answered {status} to its check"
    if status in (401, 402, 403):
        why = {401: Why.UNAUTHORIZED, 402: Why.PAYMENT, 403: Why.FORBIDDEN}[status]
        return Probed(_O.DENIED, started, latency_ms, reason=why.value, message=said)
    if status == 407:
        return Probed(_O.FAILED, started, reason=Why.PROXY.value, message=refusal(status))
    if status in (429, 529):
        wait = _retry_after(headers)
        return Probed(_O.BUSY, started, latency_ms, retry_after=wait, reason=Why.RATE_LIMITED.value, message=said)
    if 300 <= status < 400:
        return Probed(_O.FAILED, started, reason=Why.REDIRECT.value, message=f"{said}, a redirect: check the URL")
    if status == 503 and b"loading" in body.lower():
        return Probed(_O.LOADING, started, latency_ms, reason=Why.LOADING.value, message="it is loading its model")
    if status in (408, 425) or status >= 500:
        return Probed(_O.FAILED, started, reason=Why.SERVER_ERROR.value, message=said)
    return Probed(_O.UNSUPPORTED, started, latency_ms, reason="ProbeUnsupported", message=said)


def _missing(backend: Backend, listed: Any) -> frozenset[str] | None:
    """The models that a list lacks: Ollama's, or vLLM's, whose adapters come and go; None when the answer is no such
    list."""
    if not isinstance(listed, dict):
        return None
    models = listed.get("data" if backend.engine is Engine.VLLM else "models")
    if not isinstance(models, list):
        return None
    names = {str(m.get("name") or m.get("model") or m.get("id")) for m in models if isinstance(m, dict)}
    return missing_from(backend, names)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110, 10.2.3); None without a valid one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
