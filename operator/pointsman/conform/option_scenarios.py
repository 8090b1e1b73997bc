"""What gateways do only when they are told to. Data only: each list wants a gateway that is configured for it, so none
is in the catalogue.

- `hedge`: a stream without content is asked of the second backend too, after at most half of `SLOW` of the timeout.
- `hold`: requests wait for a first backend that loads its model, rather than go to the second.
"""

from __future__ import annotations

from pointsman.conform.answer_scenarios import LOADING
from pointsman.conform.scenario import Right, Scenario
from pointsman.simulator.behaviour import Act, Behaviour, Pause, Piece, Words, answers, says, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, error

SLOW = 0.6
"""Of the timeout."""
_REST: tuple[Piece, ...] = (Words(), FINISH, DONE, Act.END)
_LATE = streams(Pause(SLOW), ROLE, *_REST)
_WORD_BY_WORD = streams(ROLE, Words(1), Pause(SLOW), Words(2, 1), Pause(SLOW), Words(None, 2), FINISH, DONE, Act.END)
_LOADS = answers(503, LOADING)


def _hedge(name: str, right: Right, why: str, first: Behaviour, second: Behaviour = says) -> Scenario:
    return Scenario(name, "Asked of two", right, why, (first,), (second,), stream=True)


OPTIONS: dict[str, list[Scenario]] = {
    "hedge": [
        _hedge("late first token", Right.FALLBACK, "a queue that nobody sees", _LATE),
        _hedge("late after the role", Right.FALLBACK, "a role is no content", streams(ROLE, Pause(SLOW), *_REST)),
        _hedge("silent", Right.FALLBACK, "long before its timeout", streams(ROLE, Act.SILENCE)),
        _hedge("quick, then slow", Right.FIRST, "after content nobody else is asked", _WORD_BY_WORD),
        _hedge("both late", Right.EITHER, "one answer, whoever is first", _LATE, _LATE),
        _hedge(
            "the second fails",
            Right.EITHER,
            "the first is still there",
            _LATE,
            answers(500, error("CUDA error: out of memory")),
        ),
    ],
    "hold": [
        Scenario(
            f"loads, then answers ({kind})",
            "Waited for",
            Right.FIRST,
            "a model that will be there in a moment",
            (_LOADS, says),
            stream=kind == "stream",
        )
        for kind in ("json", "stream")
    ],
}
