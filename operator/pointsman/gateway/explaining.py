"""`POST /v1/explain`: a request that is not sent, and where it would go.

Decided here: how the answer looks, and that the request is read as the data path reads it: its body, and the headers
that decide. Nothing is decided about routing: that is `domain/candidates.py`.

Chance comes from the request's id: with an `x-request-id` the order is that of the request that has it; without one the
answer names the id that it made up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pointsman.dialects.features import TASK_HEADER, TASK_NAMES, UNKNOWN_TASK, RequestFeatures
from pointsman.dialects.openai import take_task
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import Complaint
from pointsman.domain.attempts import next_attempt
from pointsman.domain.candidates import Excluded, Ordering, order
from pointsman.domain.explanation import Reason, reasons
from pointsman.domain.table import Route
from pointsman.domain.waiting import Awaited, worth_waiting
from pointsman.gateway.state import GatewayState

_TASKS = {task: name for name, task in TASK_NAMES.items()}
FALLBACK_HEADER = b"x-pointsman-fallback"


def explain(state: GatewayState, operation: Operation, body: bytes, headers: Mapping[bytes, bytes]) -> Any:
    """The answer, or a `Complaint`. `headers` in lower case."""
    asked = operation.parse(body)
    if isinstance(asked, Complaint):
        return asked
    task = headers.get(TASK_HEADER)
    if task is not None and not take_task(asked, task):
        return Complaint(400, UNKNOWN_TASK)
    found = state.table.find(asked.model)
    if found is None:
        names = ", ".join(state.table.spoken[:50]) or "none"
        return Complaint(404, f"no route answers for the model {asked.model}; the names are: {names}")
    name, route = found
    request_id = headers.get(b"x-request-id") or b"explain-" + os.urandom(6).hex().encode()
    request = RequestFeatures(asked, headers, request_id, operation.needs)
    fallback = headers.get(FALLBACK_HEADER, b"").lower() != b"none"
    now = state.clock()
    ordering = order(route, state.health, now, request, fallback=fallback)
    ordering = state.learnt.narrow(ordering, operation, asked, now)
    chosen = route.for_request(request)
    return {
        "model": asked.model,
        "name": name,
        "route": route.name,
        "rule": chosen.rule,
        "strategy": next((tier.strategy.name.value for tier in chosen.tiers), None),
        "events": state.events,
        "requestId": request_id.decode("latin-1"),
        "stream": asked.stream,
        "taskType": _TASKS[asked.task] if asked.task else None,
        "needs": sorted(n.value for n in request.needs),
        "promptTokens": request.prompt_tokens,
        "fallback": route.fallback and fallback,
        "maxAttempts": route.max_attempts,
        "waitsFor": _wait(state, chosen, ordering, fallback=fallback),
        "candidates": [_candidate(r) for r in reasons(route, ordering, state.health, now, request)],
        "excluded": [_excluded(e, now) for e in ordering.excluded],
    }


def _wait(state: GatewayState, route: Route, ordering: Ordering, *, fallback: bool) -> dict[str, Any] | None:
    """What the request would wait for before the first candidate is asked, how long, and how many do already."""
    choice = next_attempt(route, ordering, (), fallback=fallback)
    wait = worth_waiting(route, ordering, choice, (), (), fallback=fallback)
    if wait is None:
        return None
    names = [b.name for b in wait.backends]
    if wait.awaited is Awaited.SLOT:
        most = max(b.capacity.queue_timeout for b in wait.backends if b.capacity is not None)
        waiting = max(state.waiting.waiting(name) for name in names)
    else:
        assert route.hold is not None
        most, waiting = route.hold.timeout, state.held.count(route.name)
    return {"for": wait.awaited.value, "backends": names, "atMostSeconds": most, "waiting": waiting}


def _candidate(r: Reason) -> dict[str, Any]:
    target = r.candidate.target
    return {
        "backend": target.backend.name,
        "model": target.model,
        "upstreamModel": target.upstream_model,
        "priority": target.priority,
        "weight": target.weight,
        "place": r.candidate.place.value,
        "reason": r.sentence,
        "endpoints": [f.endpoint for f in r.figures],
        "figures": [
            {
                "endpoint": f.endpoint,
                "inFlight": f.in_flight,
                "failuresInARow": f.failures_in_a_row,
                "latencyMs": None if f.latency_ms is None else round(f.latency_ms, 1),
            }
            for f in r.figures
        ],
    }


def _excluded(e: Excluded, now: float) -> dict[str, Any]:
    return {
        "backend": e.backend,
        "model": e.target.model,
        "priority": e.target.priority,
        "reason": e.reason.value,
        "message": e.told(now),
        "secondsLeft": round(max(0.0, e.until - now), 1) if e.until is not None else None,
    }
