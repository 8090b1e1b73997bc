"""Was it right? Pure: what was seen of one request, held against what the scenario calls right.

Every finding is a sentence about the gateway, the worst first; none means that the request went right.
"""

from __future__ import annotations

from pointsman.conform.observed import Observed
from pointsman.conform.scenario import Down, Right, Scenario

PROMPT_SECONDS = 2.0
"""Bound of what a fault may add when nobody has to wait for a timeout: generous, for loaded machines. The report has
the milliseconds."""
MAX_ATTEMPTS = 2
"""At most two per target (failover.md §2.2)."""


def leave_seconds(prompt: float) -> float:
    """Within which the backend of a client that left must be left too."""
    return prompt / 2


def judge(scenario: Scenario, seen: Observed, patience: float, prompt: float = PROMPT_SECONDS) -> list[str]:
    """`patience`: seconds until the gateway gives up on a silent backend; `prompt`: those that an answer may take
    otherwise."""
    if scenario.right is Right.LEAVE:
        return _left(seen, leave_seconds(prompt))
    bound = prompt + patience * scenario.silent
    if scenario.right in (Right.FIRST, Right.BREAK):
        bound += 2 * patience  # slow backends take their part of the time
    problems = _content(scenario, seen)
    if not seen.first and scenario.down is Down.NONE and scenario.right is not Right.EITHER:
        problems.append("the first backend was not asked")
    if seen.first > MAX_ATTEMPTS:
        problems.append(f"the first backend was asked {seen.first} times")
    if seen.second > MAX_ATTEMPTS:
        problems.append(f"the second backend was asked {seen.second} times")
    if seen.ms > bound * 1000:
        problems.append(f"it took {seen.ms / 1000:.1f} s, more than {bound:.1f} s")
    return problems


def _content(scenario: Scenario, seen: Observed) -> list[str]:
    match scenario.right:
        case Right.FALLBACK:
            return _whole(seen, seen.second_text)
        case Right.FIRST:
            return _whole(seen, seen.first_text) + _alone(seen)
        case Right.EITHER:
            texts = (seen.first_text, seen.second_text)
            return _whole(seen, seen.answer.text if seen.answer.text in texts else seen.first_text)
        case Right.BREAK:
            return _broken_off(scenario, seen)
        case Right.CALLER:
            return _status(scenario, seen) + _alone(seen)
        case Right.REFUSE:
            return _refused(scenario, seen)
        case Right.HONEST:
            texts = (seen.first_text, seen.second_text)
            if seen.answer.status == 200:
                return _whole(seen, seen.answer.text if seen.answer.text in texts else seen.first_text)
            return _in_form(seen)
        case Right.ENDS:
            return _ended(seen)
        case Right.EMPTY:
            return _empty(seen)
        case _:
            raise AssertionError(scenario.right)


def _whole(seen: Observed, text: str) -> list[str]:
    """The one answer `text`, ended as it should."""
    got = seen.answer
    if got.status == 0:
        return ["the client's connection was closed without an answer"]
    if got.status != 200:
        return [f"the client got {got.status}{_whose(seen)}"]
    if got.stream and not got.is_events and got.json is None:
        return ["the client got something else than a stream under 200"]
    if not got.stream and got.json is None:
        return ["the client got a broken body under 200"]
    if got.text != text:
        return [_wrong_text(seen, text)]
    out = [] if got.whole else ["the answer's framing broke off"]
    if got.stream:
        out += [] if got.finished else ["no finish_reason came"]
        out += [] if got.done == 1 else [f"[DONE] came {got.done} times"]
        out += ["an error event came within a whole answer"] if got.errors else []
        out += ["a broken event came within the answer"] if got.broken else []
    return out


def _whose(seen: Observed) -> str:
    return "" if seen.second else ", and the second backend was not asked"


def _wrong_text(seen: Observed, text: str) -> str:
    got = seen.answer.text
    if not got:
        ended = "an error event" if seen.answer.errors else "nothing" if seen.answer.whole else "a broken stream"
        return f"the client got 200 and {ended}{_whose(seen)}"
    both = bool(seen.first_text) and got.startswith(seen.first_text[:12]) and seen.second_text in got
    if both:
        return "two answers were spliced together"
    if text and got.count(text) > 1:
        return "the answer came more than once"
    if got == seen.first_text:
        return "the first backend's answer came" + (", though the second was asked too" if seen.second else "")
    if got == seen.second_text:
        return "the second backend answered, though the first could"
    if text.startswith(got):
        return (
            "a part of the answer came as if it were whole" if not seen.answer.errors else "the answer was broken off"
        )
    return f"the client got {got[:60]!r}"


def _alone(seen: Observed) -> list[str]:
    return ["the second backend was asked as well"] if seen.second else []


def _status(scenario: Scenario, seen: Observed) -> list[str]:
    if seen.answer.status in scenario.status:
        return []
    if seen.answer.status == 0:
        return ["the client's connection was closed without an answer"]
    wanted = " or ".join(str(s) for s in scenario.status)
    return [f"the client got {seen.answer.status}, not {wanted}"]


def _broken_off(scenario: Scenario, seen: Observed) -> list[str]:
    got = seen.answer
    speaker = seen.second_text if scenario.second_breaks else seen.first_text
    if not scenario.second_breaks and got.text == seen.second_text:
        return _whole(seen, seen.second_text)  # nothing had been sent yet: slower, and no less right
    if got.status != 200:
        return [f"the client got {got.status}, though content had come"]
    if seen.second and not scenario.second_breaks:
        spliced = seen.second_text[:6] in got.text
        return ["a second answer was spliced on" if spliced else "the second backend was asked after content"]
    if not got.text or not speaker.startswith(got.text):
        return [f"the client got {got.text[:60]!r}"]
    out: list[str] = []
    if got.done:
        out.append("it ended with [DONE]: half an answer passes for a whole one")
    elif not got.errors and got.whole:
        out.append("it ended in order without an error: half an answer passes for a whole one")
    elif not got.errors:
        out.append("the connection broke, without an error event")
    elif not got.whole:
        out.append("an error event came, then the framing broke")
    if got.errors > 1:
        out.append(f"{got.errors} error events came")
    if got.broken:
        out.append("a broken event was passed on")
    return out


def _ended(seen: Observed) -> list[str]:
    """(That it ended in time is judged with the rest.)"""
    got = seen.answer
    if got.status != 200 or not got.whole or got.json is None:
        return []
    return [] if got.text == seen.second_text else ["a part of the answer came as if it were whole"]


def _in_form(seen: Observed) -> list[str]:
    got = seen.answer
    if got.status == 0:
        return ["the client's connection was closed without an answer"]
    out = []
    error = got.json.get("error") if isinstance(got.json, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        out.append("the error is not in OpenAI's form")
    if any(a.encode() in got.body for a in seen.addresses):
        out.append("the error names a backend's address")
    return out


def _refused(scenario: Scenario, seen: Observed) -> list[str]:
    got = seen.answer
    out = _status(scenario, seen)
    if got.status == 0:
        return out
    out += _in_form(seen)
    if got.status == 429 and not got.headers.get("retry-after"):
        out.append("429 came without Retry-After")
    if scenario.down is Down.NONE and not seen.second:
        out.append("the second backend was not asked")
    return out


def _empty(seen: Observed) -> list[str]:
    out = _whole(seen, "")
    if not seen.second:
        out.append("the second backend was not asked")
    return out


def summary(seen: Observed) -> str:
    """What the client saw, for requests that went right."""
    got = seen.answer
    if seen.left_ms is not None:
        return f"the backend noticed after {seen.left_ms:.0f} ms"
    if got.status != 200:
        return str(got.status)
    by = {seen.first_text: "first", seen.second_text: "second"}.get(got.text)
    if by:
        return f"200, whole, of the {by}"
    if not got.text:
        return "200, empty"
    return "200, the start, an error event"


def _left(seen: Observed, within: float) -> list[str]:
    out = [] if seen.first else ["the first backend was never asked"]
    if seen.first and seen.left_ms is None:
        out.append(f"the backend's connection was still open after {within:g} s")
    return out + _alone(seen)
