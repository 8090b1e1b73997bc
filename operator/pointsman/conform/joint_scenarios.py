"""Both backends at fault, several requests in a row, and clients that leave. Data only."""

from __future__ import annotations

from pointsman.conform.answer_scenarios import BUSY, DENIED, LOADING
from pointsman.conform.scenario import Down, Right, Scenario
from pointsman.simulator.behaviour import Act, Behaviour, Words, answers, says, sends, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, error

ALL = "Both backends"
TIME = "In a row"
CLIENT = "The client leaves"

FAILS = answers(500, error("CUDA error: out of memory"))


def _all(name: str, behave: Behaviour, why: str, *status: int, stream: bool = False, silent: int = 0) -> Scenario:
    return Scenario(
        name, ALL, Right.REFUSE, why, (behave,), (behave,), stream=stream, status=status, silent=silent
    )  # fmt: skip


JOINT: list[Scenario] = [
    Scenario(
        "first busy, then free",
        TIME,
        Right.EITHER,
        "left alone for as long as it asked, then used again",
        (BUSY, says),
        returns=1.0,
    ),
    Scenario(
        "flapping",
        TIME,
        Right.EITHER,
        "a backend that comes and goes loses nobody's request",
        (FAILS, says, sends(Act.RESET), says, sends(Act.CUT), says),
        requests=8,
    ),
    Scenario(
        "poison request",
        ALL,
        Right.REFUSE,
        "a request that fails everywhere is to blame itself: it takes nobody out of service",
        (FAILS,),
        (FAILS,),
        status=(500, 502, 503),
        requests=6,
        unharmed=True,
    ),
    Scenario(
        "a body of 40 MB",
        ALL,
        Right.HONEST,
        "whoever does not keep it to send it again says so, and does not hang",
        (FAILS,),
        prompt_bytes=40_000_000,
    ),
    Scenario(
        "client leaves before the headers",
        CLIENT,
        Right.LEAVE,
        "a GPU that computes for nobody",
        (sends(Act.SILENCE),),
        stream=True,
        leave_after="",
    ),
    Scenario(
        "client leaves before the first token",
        CLIENT,
        Right.LEAVE,
        "a long prompt, an impatient user",
        (streams(ROLE, Act.SILENCE),),
        stream=True,
        leave_after="",
    ),
    Scenario(
        "client leaves mid-answer",
        CLIENT,
        Right.LEAVE,
        "the stop button",
        (streams(ROLE, Words(2), Act.SILENCE),),
        stream=True,
        leave_after="one",
    ),
    Scenario(
        "the fallback breaks off",
        ALL,
        Right.BREAK,
        "after its first content the fallback is final too",
        (FAILS,),
        (streams(ROLE, Words(2), Act.CUT),),
        stream=True,
        second_breaks=True,
    ),
    _all("all failing", FAILS, "the client should hear why, and may come back", 500, 502, 503),
    _all("all failing (stream)", FAILS, "a status, not a stream with an error in it", 500, 502, 503, stream=True),
    _all("all cut before content", streams(ROLE, Act.CUT), "no stream was begun for the client", 502, 503, stream=True),
    _all("all busy", BUSY, "clients back off on 429 only", 429),
    _all("all loading", answers(503, LOADING), "nothing is broken: come back soon", 503),
    Scenario(
        "all empty (json)",
        ALL,
        Right.EMPTY,
        "an error would be a lie",
        (answers(200, completion("")),),
        (answers(200, completion("")),),
    ),
    Scenario(
        "all empty (stream)",
        ALL,
        Right.EMPTY,
        "an error would be a lie",
        (streams(ROLE, FINISH, DONE, Act.END),),
        (streams(ROLE, FINISH, DONE, Act.END),),
        stream=True,
    ),
    _all("all silent (json)", sends(Act.SILENCE), "an end, and the one that says why", 504, silent=2),
    _all("all silent (stream)", sends(Act.SILENCE), "an end, and the one that says why", 504, stream=True, silent=2),
    Scenario(
        "all down",
        ALL,
        Right.REFUSE,
        "at once: nothing is worth waiting for",
        (says,),
        status=(500, 502, 503),
        down=Down.BOTH,
    ),
]

LAST: list[Scenario] = [
    Scenario(
        "all denied",
        ALL,
        Right.REFUSE,
        "401 would make clients throw their own key away",
        (answers(401, DENIED),),
        (answers(401, DENIED),),
        status=(502, 503),
        lingers=True,
    )
]
