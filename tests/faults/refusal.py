"""The gateway's own error when nobody answered: does it tell the truth, and is its status the one of the rules? Pure.

The rules (failover.md §2.3) are written down here once more, on purpose, instead of asking the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from tests.faults.attempts import Attempt
from tests.faults.evidence import Evidence
from tests.faults.values import Asked
from tests.faults.world import RouteSpec

OURS = frozenset(("all_backends_busy", "timeout", "no_backend", "backend_timeout", "backend_failure"))
FREE = frozenset(("Refused", "Unreachable", "EndpointGone", "DnsFailed"))
_TRIED = re.compile(r"^- (\S+) \(\S+\): (\w+), (\w+): .*, after \d+ ms$")
_NOT = re.compile(r"^- (\S+) \(\S+\): not asked, (\w+): ")


@dataclass(frozen=True)
class Refusal:
    code: str
    tried: tuple[tuple[str, str, str], ...]
    """(backend, verdict, reason) in order."""
    barred: tuple[tuple[str, str], ...]
    """(backend, reason)."""
    unread: tuple[str, ...]


def parse(asked: Asked) -> Refusal | None:
    """None when the answer is not one of our refusals."""
    text = asked.body
    if asked.patient:
        text = next((line[6:] for line in text.split("\n") if line.startswith("data: ")), "")
    elif asked.status < 400:
        return None
    try:
        error = msgspec.json.decode(text).get("error") or {}
    except (msgspec.DecodeError, AttributeError):
        return None
    if not isinstance(error, dict) or error.get("code") not in OURS:
        return None
    tried, barred, unread = [], [], []
    for line in str(error["message"]).split("\n")[1:]:
        if found := _TRIED.match(line):
            tried.append((found[1], found[2], found[3]))
        elif found := _NOT.match(line):
            barred.append((found[1], found[2]))
        else:
            unread.append(line)
    return Refusal(str(error["code"]), tuple(tried), tuple(barred), tuple(unread))


def status_of(refusal: Refusal) -> int:
    """What rule 3 says."""
    verdicts = {v for _, v, _ in refusal.tried}
    if verdicts == {"Busy"} or (
        not verdicts and refusal.barred and {r for _, r in refusal.barred} <= {"Saturated", "AtLimit"}
    ):
        return 429
    if any(why == "TotalTimeout" for _, _, why in refusal.tried):
        return 504
    if verdicts <= {"Loading", "Denied", "ModelMissing"}:
        return 503
    return 504 if "Stalled" in verdicts else 502


def check(
    refusal: Refusal, asked: Asked, route: RouteSpec, attempts: Sequence[Attempt], evidence: Evidence, *, reloads: bool
) -> tuple[list[str], int]:
    """What is wrong with it, and how many of its attempts no backend saw."""
    if reloads and route.holds:
        attempts = _since_reload(refusal, attempts)
    problems = [f"its error has a line that nobody can read: {line}" for line in refusal.unread]
    if asked.patient:
        asked = msgspec.structs.replace(asked, status=status_of(refusal), attempts=len(refusal.tried), retry_after="-")
    if asked.status != status_of(refusal):
        problems.append(f"was refused with {asked.status}; the rules say {status_of(refusal)} for {refusal.tried}")
    if asked.status == 429 and not asked.retry_after:
        problems.append("was refused with 429 without Retry-After")
    if asked.attempts != len(refusal.tried):
        problems.append(f"says {asked.attempts} attempts and lists {len(refusal.tried)}")
    left = list(attempts)
    spare = {a.backend: list(a.splits) for a in attempts if a.splits}
    unseen = 0
    for backend, verdict, why in refusal.tried:
        # Of those that ran beside each other the one begun first may have ended last.
        next_ = next((a for n, a in enumerate(left) if (n == 0 or a.raced) and a.backend == backend), None)
        if next_ is not None and _is(next_, verdict, why):
            left.remove(next_)
        elif split := next((whys for whys in spare.get(backend, ()) if why in whys), None):
            spare[backend].remove(split)
            unseen += 1
        elif evidence.fails_with(backend, why, asked.at, asked.done):
            unseen += 1
        else:
            saw = f"{left[0].last.fault} of {left[0].backend}" if left else "nothing"
            problems.append(f"says {backend}: {verdict}, {why}; what happened was {saw}")
    problems += [f"does not tell of {a.last.fault} of {a.backend}" for a in left]
    problems += _left_out(refusal, asked, route, evidence)
    return problems, unseen


def _since_reload(refusal: Refusal, attempts: Sequence[Attempt]) -> list[Attempt]:
    """A request that is held forgets whom it had looked at when the configuration changes."""
    told = sum(verdict == "Loading" for _, verdict, _ in refusal.tried)
    forgotten = sum(a.verdict == "Loading" for a in attempts) - told
    kept = []
    for attempt in attempts:
        if attempt.verdict == "Loading" and forgotten > 0:
            forgotten -= 1
        else:
            kept.append(attempt)
    return kept


def _is(attempt: Attempt, verdict: str, why: str) -> bool:
    if not attempt.whys:
        return True
    return why in attempt.whys and (verdict == attempt.verdict or attempt.lost_redial)


def _left_out(refusal: Refusal, asked: Asked, route: RouteSpec, evidence: Evidence) -> list[str]:
    """Was there anybody who could have answered?"""
    problems = []
    for backend, reason in refusal.barred:
        # It was judged at the end of the request.
        if reason not in ("BackendNotFound", "NoEndpoint") and not evidence.bears_out(
            backend, asked.model, reason, asked.done
        ):
            problems.append(f"says that {backend} was {reason}, which it was not")
    if refusal.code == "timeout":
        return problems
    spent = sum(why not in FREE for _, _, why in refusal.tried)
    if spent >= route.attempts or not asked.fallback or not route.fallback:
        return problems
    named = {b for b, _, _ in refusal.tried} | {b for b, _ in refusal.barred}
    problems += [f"was refused though {b} was never asked" for b in route.targets if b not in named]
    return problems
