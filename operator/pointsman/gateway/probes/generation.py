"""A check by one token: which model is asked, how, and what the answer says.

Decided here: that. Not here: when it is due and how long the model stays (`domain/generation.py`), what a failure does
to the endpoint's health (`domain/health.py`).

- Ollama: the model that stays in memory the longest (`/api/ps`), by `/api/generate`, the one request that may say for
  how long the model is kept. Nothing in memory: nothing to ask.
- External: the first model of the backend, by `/chat/completions`.

An answer about the request itself (400, 404, 422) proves that the server works, not that it generates: it is neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from pointsman.api.engine import Engine
from pointsman.domain.book import credential_version, tagged
from pointsman.domain.generation import hindered, keep_alive
from pointsman.domain.health import EndpointMachine
from pointsman.domain.judging import UNREADABLE, judge_status
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import Backend, Endpoint, GenerationPolicy
from pointsman.domain.verdict import Judgement, Verdict, Why
from pointsman.gateway.probes.client import Answer, ProbeClient, Unanswered

_LIMIT = 256 << 10
"""Bytes that are read of an answer."""
_O = ProbeOutcome
_OUTCOMES: Mapping[Verdict, ProbeOutcome] = {
    Verdict.FAILURE: _O.FAILED,
    Verdict.BUSY: _O.BUSY,
    Verdict.LOADING: _O.LOADING,
    Verdict.DENIED: _O.DENIED,
}


async def generate(
    client: ProbeClient, backend: Backend, endpoint: Endpoint, machine: EndpointMachine, policy: GenerationPolicy
) -> Probed | None:
    """One check; None when there is nothing to ask now. Never raises but for a bug."""
    started = client.clock()
    try:
        async with client.within(policy.timeout):
            if backend.engine is Engine.OLLAMA:
                return await _ollama(client, backend, endpoint, machine, policy)
            return await _openai(client, backend, endpoint, machine)
    except Unanswered as error:
        if error.timed_out:
            message = f"it answers its checks, but gave no token within {policy.timeout:g} s"
            return Probed(_O.TIMED_OUT, started, reason="GenerationTimeout", message=message)
        return Probed(_O.FAILED, started, reason=error.why.value, message=error.sentence)


async def _openai(client: ProbeClient, backend: Backend, endpoint: Endpoint, machine: EndpointMachine) -> Probed | None:
    started = client.clock()
    model = next(iter(backend.models.values()))
    if hindered(machine, model, credential_version(backend), started):
        return None
    body = {"model": model, "messages": [{"role": "user", "content": "1"}], "max_tokens": 1, "stream": False}
    answer = await _post(client, backend, endpoint, f"{endpoint.base_path}/chat/completions", body)
    return found_in(answer, "choices", started)


async def _ollama(
    client: ProbeClient, backend: Backend, endpoint: Endpoint, machine: EndpointMachine, policy: GenerationPolicy
) -> Probed | None:
    started = client.clock()
    answer = await client.request(backend, endpoint, "GET", "/api/ps", _LIMIT, _LIMIT)
    wanted = {tagged(m): m for m in backend.models.values()}
    for left, name in sorted(loaded(answer), reverse=True):
        model = wanted.get(tagged(name))
        if model is None or hindered(machine, model, credential_version(backend), started):
            continue
        kept = keep_alive(left, machine.advanced_at, policy, started)
        if kept is None:
            return None
        body = {
            "model": model, "prompt": "1", "raw": True, "stream": False, "options": {"num_predict": 1},
            "keep_alive": kept,
        }  # fmt: skip
        return found_in(await _post(client, backend, endpoint, "/api/generate", body), "done", started)
    # It has nothing in memory: there is nothing to prove, nor to doubt.
    return Probed(_O.UNSUPPORTED, started)


def loaded(answer: Answer) -> list[tuple[float, str]]:
    """What Ollama has in memory: seconds until each leaves, by the server's own clock, and its name."""
    value = _json(answer.body)
    models = value.get("models") if answer.status == 200 and isinstance(value, dict) else None
    out = []
    for model in models if isinstance(models, list) else ():
        try:
            until = datetime.fromisoformat(str(model["expires_at"]))
            out.append(((until - _server_time(answer)).total_seconds(), str(model["name"])))
        except (KeyError, TypeError, ValueError):
            continue
    return out


def found_in(answer: Answer, key: str, started: float) -> Probed:
    """What the answer to a generation says; `key` is what a good one holds."""
    latency = (answer.at - started) * 1000
    if answer.status == 200:
        value = _json(answer.body)
        if isinstance(value, dict) and value.get(key):
            return Probed(_O.OK, started, latency)
        judged = Judgement(Verdict.FAILURE, Why.EMPTY, "it answered without one")
    else:
        judged = judge_status(answer.status, answer.body, answer.headers.get("Content-Type", ""), None)
    outcome = _OUTCOMES.get(judged.verdict, _O.UNSUPPORTED)
    message = f"it answers its checks, but not with a token: {judged.sentence}"
    return Probed(outcome, started, latency, reason=judged.why.value, message=message)


async def _post(
    client: ProbeClient, backend: Backend, endpoint: Endpoint, path: str, body: Mapping[str, object]
) -> Answer:
    return await client.request(backend, endpoint, "POST", path, _LIMIT, _LIMIT, msgspec.json.encode(body))


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return None


def _server_time(answer: Answer) -> datetime:
    """The server's clock, for two machines' clocks may differ: the end of the second that it names, so that no model
    is kept longer by a check. Raises `ValueError`."""
    said = answer.headers.get("Date", "")
    return parsedate_to_datetime(said).astimezone(UTC) + timedelta(seconds=1)
