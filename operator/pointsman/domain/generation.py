"""When is one token worth asking for? The check that makes a model produce one. Pure.

A cheap check shows that a server listens; an engine behind it may hang all the same. Decided here: when such a check is
due, and for how long Ollama is told to keep the model afterwards. Not here: what is asked (`gateway/probes/`), what a
failure does (`health.py`).

The budget of one gateway and endpoint: one token out of a prompt of one character, at most once in `interval`, and only
when traffic proved nothing meanwhile: no answer advanced for `interval` and none is under way. After a failure it is
asked again with the cheap checks, until it answers.

Ollama: only a model that is in memory is asked, so that nothing is loaded and nothing evicted for a check. A request
without `keep_alive` would keep it for the whole time anew, and one with it changes what later requests get: so the
check sends what is left of the time since the last real answer. A model that would leave memory within two intervals is
left alone.
"""

from __future__ import annotations

from pointsman.domain.health import EndpointMachine, State
from pointsman.domain.table import GenerationPolicy

LOOK_AGAIN = 0.25
"""Of an interval: how soon to look again while something else proves, or rules out, that it generates."""
LEFT_ALONE_INTERVALS = 2
FOREVER_SECONDS = 365 * 86400.0
FOREVER = -1


def pause(machine: EndpointMachine, policy: GenerationPolicy, retry: float, tried: float, now: float) -> float:
    """Seconds until a check is due; 0: now. `tried`: when the last one began; `retry`: the cheap checks' interval."""
    if machine.in_flight:
        return policy.interval * LOOK_AGAIN
    if machine.doubted:
        return max(0.0, tried + min(retry, policy.interval) - now)
    if machine.state is State.UNHEALTHY:
        return policy.interval * LOOK_AGAIN
    return max(0.0, max(machine.advanced_at, tried) + policy.interval - now)


def hindered(machine: EndpointMachine, model: str, credential: str, now: float) -> bool:
    """A flag says already that it will not answer for this model, or somebody rehearses its failure."""
    return machine.flags.any_of(model, credential, now) is not None or machine.flags.load(now) is not None


def keep_alive(left: float, answered: float, policy: GenerationPolicy, now: float) -> int | None:
    """Seconds that Ollama is to keep the model after the check; `FOREVER` for one that stays; None: leave it alone.

    `left`: until it would be unloaded; `answered`: when an answer last advanced, `-inf` for never. A check before that
    answer may have left the model with less than the backend's keep-alive: it gets that back.
    """
    seconds = max(left, answered + policy.keep_alive - now)
    if left <= 0 or seconds <= LEFT_ALONE_INTERVALS * policy.interval:
        return None
    return FOREVER if seconds > FOREVER_SECONDS else int(seconds)
