"""Adapters of servers that run: asks each ready pod for what it has, and for what `adapters.py` says. The shell.

A pod that has been asked is not asked again until its list of adapters changes or it starts anew; a new operator looks
once at each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from pointsman.controllers import adapters
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import Plan
from pointsman.controllers.readiness import is_ready
from pointsman.engines.drivers import DRIVERS
from pointsman.kube.resources import Obj, name_of, uid_of

SECONDS = 30.0
"""An adapter is some hundred megabytes that are read from the volume."""
AGAIN_SECONDS = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=SECONDS, sock_connect=3.0)
_ANSWER_LIMIT = 1 << 20
_WORDS = 300


class AdapterCalls:
    """Keeps the adapters of all backends' pods."""

    def __init__(self) -> None:
        self._done: dict[tuple[str, str], dict[str, str]] = {}
        """Of each backend: what each start of its pods was last asked for."""

    async def keep(self, seen: Observed, todo: Plan) -> str:
        """What could not be done, in a sentence; empty when nothing is left."""
        backend = seen.backend
        key = (backend.meta.namespace, backend.meta.name)
        if not adapters.of(backend) and not adapters.started_with(seen.workload):
            self.forget(*key)
            return ""
        there = {p.model.name for p in todo.pulls if p.known is not None or (p.end is not None and p.end.complete)}
        wanted = json.dumps([*sorted(there), *(a.to_api() for a in adapters.of(backend))])
        trouble = ""
        starts = {_start(pod): pod for pod in seen.serving if is_ready(pod)}
        done = {s: asked for s, asked in self._done.get(key, {}).items() if s in starts}
        for start, pod in starts.items():
            if done.get(start) != wanted:
                said = await self._ask(seen, pod, there)
                trouble = trouble or said
                if not said:
                    done[start] = wanted
        self._done[key] = done
        return trouble

    def forget(self, namespace: str, name: str) -> None:
        """Call for a backend that is gone."""
        self._done.pop((namespace, name), None)

    async def _ask(self, seen: Observed, pod: Obj, there: set[str]) -> str:
        address, port = pod["status"].get("podIP"), DRIVERS[seen.backend.spec.engine].port(seen.backend.spec)
        url = f"http://[{address}]:{port}" if ":" in str(address) else f"http://{address}:{port}"
        try:
            async with aiohttp.ClientSession(base_url=url, timeout=_TIMEOUT) as session:
                async with session.get("/v1/models", allow_redirects=False) as response:
                    listed = json.loads(await response.content.read(_ANSWER_LIMIT))
                for call in adapters.calls(seen.backend, listed, there):
                    async with session.post(call.path, json=dict(call.body), allow_redirects=False) as response:
                        if response.status != 200:
                            words = _sentence(await response.content.read(_ANSWER_LIMIT))
                            return f"pod {name_of(pod)} refuses adapter {call.adapter}: {words}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"pod {name_of(pod)} could not be asked for its adapters: {str(error) or type(error).__name__}"
        return ""


def _start(pod: Obj) -> str:
    """One start of a pod's engine."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return f"{uid_of(pod)} {sum(int(s.get('restartCount') or 0) for s in statuses)}"


def _sentence(body: bytes) -> str:
    """vLLM's own words."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        said = body.decode(errors="replace")
    if isinstance(said, Mapping):
        inner = said.get("error")
        said = inner.get("message") if isinstance(inner, Mapping) else said.get("message") or inner or said
    return " ".join(str(said).split())[:_WORDS]
