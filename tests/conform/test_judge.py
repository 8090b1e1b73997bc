"""What the kit calls right and wrong, on answers made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pointsman.conform.judge import judge
from pointsman.conform.observed import Answer, Observed
from pointsman.conform.scenario import Down, Right, Scenario
from pointsman.simulator.behaviour import says
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, delta, error, event

A, B = "alpha<m> one two", "bravo<m> one two"
SSE = {"content-type": "text/event-stream"}


def streamed(*frames: object, whole: bool = True) -> Answer:
    return Answer(200, SSE, b"".join(event(f) for f in frames), whole, stream=True)


def plain(body: bytes, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {"content-type": "application/json", **headers}, body, whole=True, stream=False)


def seen(answer: Answer, first: int = 1, second: int = 1, ms: float = 1.0) -> Observed:
    return Observed(answer, ms, first, second, A, B, None, ("127.0.0.1:9101",))


def scenario(right: Right, stream: bool = True, **more: object) -> Scenario:
    return replace(Scenario("s", "g", right, "w", (says,), stream=stream), **more)  # type: ignore[arg-type]


def test_a_whole_answer_of_the_second_is_right() -> None:
    fallback = scenario(Right.FALLBACK)
    assert judge(fallback, seen(streamed(ROLE, delta(B), FINISH, DONE)), 1) == []
    assert judge(scenario(Right.FALLBACK, stream=False), seen(plain(completion(B))), 1) == []


WRONG: dict[str, Callable[[], Observed]] = {
    "no finish_reason came": lambda: seen(streamed(ROLE, delta(B), DONE)),
    "[DONE] came 0 times": lambda: seen(streamed(ROLE, delta(B), FINISH)),
    "[DONE] came 2 times": lambda: seen(streamed(ROLE, delta(B), FINISH, DONE, DONE)),
    "the answer's framing broke off": lambda: seen(streamed(ROLE, delta(B), FINISH, DONE, whole=False)),
    "two answers were spliced together": lambda: seen(streamed(delta(A[:14]), delta(B), FINISH, DONE)),
    "the answer came more than once": lambda: seen(streamed(delta(B), delta(B), FINISH, DONE)),
    "a part of the answer came as if it were whole": lambda: seen(streamed(delta(B[:12]), FINISH, DONE)),
    "the client's connection was closed without an answer": lambda: seen(replace(streamed(), status=0)),
    "the first backend was not asked": lambda: seen(streamed(delta(B), FINISH, DONE), first=0),
    "the first backend was asked 5 times": lambda: seen(streamed(delta(B), FINISH, DONE), first=5),
    "it took 9.0 s, more than 2.0 s": lambda: seen(streamed(delta(B), FINISH, DONE), ms=9000),
    "a broken event came within the answer": lambda: seen(streamed(delta(B), b"{broken", FINISH, DONE)),
    "the client got 502, and the second backend was not asked": lambda: seen(plain(b"", 502), second=0),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_said(sentence: str) -> None:
    assert judge(scenario(Right.FALLBACK), WRONG[sentence](), 1) == [sentence]


def test_after_content_an_error_event_is_right_and_a_second_answer_is_not() -> None:
    broken = scenario(Right.BREAK)
    event_of_error = {"error": {"message": "it broke"}}
    assert judge(broken, seen(streamed(delta(A[:14]), event_of_error), second=0), 1) == []
    assert judge(broken, seen(streamed(delta(A[:14]), whole=False), second=0), 1) == [
        "the connection broke, without an error event"
    ]
    assert judge(broken, seen(streamed(delta(A[:14]), delta(B), FINISH, DONE)), 1) == ["a second answer was spliced on"]
    assert judge(broken, seen(streamed(delta(A[:14]), event_of_error, DONE), second=0), 1) == [
        "it ended with [DONE]: half an answer passes for a whole one"
    ]


def test_who_held_everything_back_may_still_fall_back() -> None:
    assert judge(scenario(Right.BREAK), seen(streamed(ROLE, delta(B), FINISH, DONE)), 1) == []


def test_an_error_must_have_its_form_and_name_no_address() -> None:
    refuse = scenario(Right.REFUSE, stream=False, status=(502,))
    assert judge(refuse, seen(plain(error("both failed"), 502)), 1) == []
    assert judge(refuse, seen(plain(error("http://127.0.0.1:9101 failed"), 502)), 1) == [
        "the error names a backend's address"
    ]
    assert judge(refuse, seen(plain(b"Bad Gateway", 502)), 1) == ["the error is not in OpenAI's form"]
    busy = scenario(Right.REFUSE, stream=False, status=(429,))
    assert judge(busy, seen(plain(error("busy"), 429)), 1) == ["429 came without Retry-After"]
    assert judge(busy, seen(plain(error("busy"), 429, **{"retry-after": "1"})), 1) == []


def test_a_dead_backend_cannot_be_seen_to_be_asked() -> None:
    down = scenario(Right.FALLBACK, stream=False, down=Down.FIRST)
    assert judge(down, seen(plain(completion(B)), first=0), 1) == []


def test_silence_may_take_as_long_as_it_is_configured_to() -> None:
    silent = scenario(Right.FALLBACK, stream=False, silent=1)
    assert judge(silent, seen(plain(completion(B)), ms=11_500), 10) == []
    assert judge(silent, seen(plain(completion(B)), ms=12_500), 10) == ["it took 12.5 s, more than 12.0 s"]


def test_how_prompt_a_gateway_must_be_can_be_said() -> None:
    fallback, leaves = scenario(Right.FALLBACK), scenario(Right.LEAVE)
    late = seen(streamed(ROLE, delta(B), FINISH, DONE), ms=5000)
    assert judge(fallback, late, 1) == ["it took 5.0 s, more than 2.0 s"]
    assert judge(fallback, late, 1, prompt=6) == []
    assert judge(leaves, seen(streamed(), second=0), 1, 6) == ["the backend's connection was still open after 3 s"]
