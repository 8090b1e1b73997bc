"""What must be true of every request: held against what its client got and what the backends saw. Pure.

Every finding is one sentence and names its request. None means that no answer was failed, lost, spliced or duplicated,
that candidates were asked in their order, and that every fault had the verdict that the table gives it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults import refusal
from tests.faults.attempts import Attempt, joined
from tests.faults.evidence import BLUR, HAZE, Evidence
from tests.faults.faults import End
from tests.faults.races import BROKEN_OFF, may_race, raced
from tests.faults.values import Arrival, Asked, Change, Down, Move, start_of
from tests.faults.world import CHANGING, HELD, HOLD, LIMITED, TOTAL, RouteSpec, World

LEAVE_SECONDS = 1.5
"""After which a backend must have noticed that the client is gone."""
RESTART_SECONDS = 2.0
"""What a machine that stood still needs until everybody is in time again."""
RETRYABLE = frozenset(
    ("Reset", "Cut", "ServerError", "BrokenHttp", "BrokenJson", "BrokenStream", "Incomplete", "ErrorEvent")
)
BARRED = frozenset(
    (
        "NoEndpoint",
        "Unhealthy",
        "Saturated",
        "AtLimit",
        "Loading",
        "ModelMissing",
        "Denied",
        "BackendNotFound",
        "ModelNotFound",
    )
)


@dataclass
class Verdict:
    """What the model found. `results` counts what clients got."""

    findings: list[str] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    unseen: Counter[str] = field(default_factory=Counter)
    """Request → attempts that no backend saw."""


class Model:
    """`reloads`: the configuration changed throughout. `moves` is None where the gateway's events were not all read."""

    def __init__(
        self,
        world: World,
        asked: Iterable[Asked],
        arrivals: Iterable[Arrival],
        downs: Iterable[Down],
        changes: Iterable[Change],
        moves: Iterable[Move] | None,
        *,
        reloads: bool,
        pauses: Sequence[tuple[float, float]] = (),
    ) -> None:
        """`pauses` are the times when the machine itself stood still, as a process besides says: what ran then is not
        judged, for nobody was in time."""
        self._world = world
        self.pauses = pauses
        self._asked = {a.request: a for a in asked}
        self._reloads = reloads
        self._by_route: dict[str, list[Asked]] = defaultdict(list)
        for one in sorted(self._asked.values(), key=lambda a: a.at):
            self._by_route[one.model].append(one)
        by_request: dict[str, list[Arrival]] = defaultdict(list)
        self.verdict = Verdict()
        for arrival in sorted(arrivals, key=lambda a: a.number):
            by_request[arrival.request].append(arrival)
            self.verdict.faults[arrival.fault] += 1
        self.attempts = self.verdict.attempts
        for request, list_ in by_request.items():
            known = self._asked.get(request)
            if known is None:
                self._find(request, "reached a backend, and no client asked for it")
            else:
                hedges = world.routes[known.model].hedges and known.stream
                attempts = joined(list_, known.usage, hedges=hedges)
                self.attempts[request] = raced(attempts, known) if hedges else attempts
        self._moves: Mapping[str, list[Move]] | None = None
        if moves is not None:
            grouped: dict[str, list[Move]] = defaultdict(list)
            for move in moves:
                grouped[move.request].append(move)
            self._moves = grouped
        self.evidence = Evidence(self.attempts, self._asked, downs, changes, reloads=reloads)

    def _find(self, request: str, text: str) -> None:
        self.verdict.findings.append(f"{request}: {text}")

    def check(self) -> Verdict:
        for asked in self._asked.values():
            attempts = self.attempts.get(asked.request, [])
            if self.paused(asked.at, asked.done):
                self.verdict.results["not judged: the machine stood still"] += 1
                continue
            self._sides(asked, attempts)
            if asked.left:
                self.verdict.results["left by its client"] += 1
                self._left(asked, attempts)
            else:
                self._answer(asked, attempts)
                self._order(asked, attempts)
                self._reasons(asked, attempts)
                self._waits(asked, self._world.routes[asked.model], attempts)
        self._left_alone()
        return self.verdict

    def paused(self, begin: float, end: float) -> bool:
        """Did the machine stand still between the two, or just before?"""
        return any(a < end and begin < b + RESTART_SECONDS for a, b in self.pauses)

    # ---- what holds for all

    def _sides(self, asked: Asked, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            for arrival in attempt.arrivals:
                if not arrival.intact:
                    self._find(asked.request, f"reached {arrival.backend} with another body than its client sent")
                if arrival.stream != asked.stream:
                    self._find(asked.request, f"reached {arrival.backend} as another kind of request")
                if asked.head and not asked.patient and arrival.at > asked.head + HAZE:
                    self._find(asked.request, f"reached {arrival.backend} though its answer had begun")
                if arrival.model not in ("", asked.model):
                    self._find(asked.request, f"reached {arrival.backend} for the model {arrival.model}")
        for n, attempt in enumerate(attempts[:-1]):
            if End.ON not in attempt.ends:
                after = attempts[n + 1].backend
                self._find(asked.request, f"{attempt.last.fault} of {attempt.backend} was final, and {after} was asked")

    def _left(self, asked: Asked, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if attempt.last.done > asked.done + LEAVE_SECONDS:
                late = attempt.last.done - asked.done
                self._find(asked.request, f"{attempt.backend} worked on for {late:.1f} s after the client had left")

    def _left_alone(self) -> None:
        """Who asked for a pause, lacks a model or refuses our key is not asked again for so long."""
        pairs: dict[tuple[str, str], list[tuple[Attempt, Asked]]] = defaultdict(list)
        for request, attempts in self.attempts.items():
            for attempt in attempts:
                pairs[attempt.backend, self._asked[request].model].append((attempt, self._asked[request]))
        for (backend, model), list_ in pairs.items():
            if self._reloads and backend in CHANGING:
                continue
            list_.sort(key=lambda pair: pair[0].arrivals[0].at)
            barred: tuple[float, float, str] | None = None
            healed = sorted(max(a.last.done, asked.done) for a, asked in list_ if End.WHOLE in a.ends)
            for attempt, asked in list_:
                at = attempt.arrivals[0].at
                if (
                    barred is not None
                    and barred[2] != "Busy"
                    and bisect_right(healed, at) > bisect_left(healed, barred[0])
                ):
                    barred = None  # an answer that came after it has shown that it is over
                if barred is not None and barred[0] + HAZE < self._chosen(asked, attempt) and at < barred[1] - 0.05:
                    least_bad = barred[2] == "ModelMissing" and self._nobody_else(asked, attempt, at)
                    if not least_bad and not self.paused(asked.at, asked.done):
                        self._find(asked.request, f"{backend} was asked for {model} again in its pause ({barred[2]})")
                if attempt.fault.bars and attempt.sure and not asked.left:
                    barred = (attempt.last.done, attempt.last.done + attempt.fault.bars, attempt.verdict)

    def _chosen(self, asked: Asked, attempt: Attempt) -> float:
        """Not before this was it decided to ask: a dial may take its time."""
        others = (a for a in self.attempts[asked.request] if not a.raced)
        before = [a.last.done for a in others if a.last.done <= attempt.arrivals[0].at]
        return max([asked.at, *before])

    def _nobody_else(self, asked: Asked, attempt: Attempt, at: float) -> bool:
        if not asked.fallback or not self._world.routes[asked.model].fallback:
            return True
        before = {a.backend for a in self.attempts[asked.request] if a.arrivals[0].at < at}
        others = (b for b in self._world.routes[asked.model].targets if b != attempt.backend and b not in before)
        return all(self.evidence.barred(b, asked.model, at) for b in others)

    # ---- the answer

    def _answer(self, asked: Asked, attempts: Sequence[Attempt]) -> None:
        route = self._world.routes[asked.model]
        request = asked.request
        if asked.status == 0:
            self._find(request, "got no answer")
            return
        if asked.done - asked.at > TOTAL + 2:
            self._find(request, f"was answered after {asked.done - asked.at:.1f} s")
        own = refusal.parse(asked)
        if own is not None:
            self._refused(asked, route, own, attempts)
            return
        if asked.patient and asked.error_events and not asked.text:
            self.verdict.results["told of a failure within a stream"] += 1
            return
        if not attempts:
            self._find(request, f"got {asked.status}, and no backend was asked")
            return
        unseen = asked.attempts - len(attempts)
        self.verdict.unseen[request] = unseen
        split = sum(len(a.splits) for a in attempts)
        excused = 0 < unseen <= split or self._gone(asked, route, attempts, unseen)
        if unseen and not excused and not self._may_differ(asked, route, attempts, unseen):
            self._find(request, f"says {asked.attempts} attempts; the backends saw {len(attempts)}")
        answering = attempts[-1]
        if answering.raced:
            answering = next((a for a in reversed(attempts) if a.raced and a.backend == asked.backend), answering)
        for loser in (a for a in attempts if a.raced and a is not answering):
            if loser.last.done > asked.done + LEAVE_SECONDS:
                self._find(request, f"{loser.backend} worked on though {answering.backend} had answered")
        kind = self._kind(asked, answering)
        if kind is not None and kind in answering.ends:
            if asked.backend != answering.backend:
                self._find(request, f"says that {asked.backend} answered; it was {answering.backend}")
            if answering.raced:
                self.verdict.results["of these: asked of two at once"] += 1
            self.verdict.results[kind.value] += 1
        elif asked.verdict == "EmptyAnswer":
            self._agreed(asked, route, attempts, "EmptyAnswer", attempts[-1])
        elif 400 <= asked.status < 500:
            self._agreed(asked, route, attempts, "Unfit", attempts[0])
        else:
            fault = attempts[-1].last.fault
            got = f"{asked.status}, {asked.text[:60]!r}, finished {asked.finished}, [DONE] {asked.done_events}"
            self._find(request, f"{fault} of {attempts[-1].backend}: the client got {got}, whole {asked.whole}")

    @staticmethod
    def _may_differ(asked: Asked, route: RouteSpec, attempts: Sequence[Attempt], unseen: int) -> bool:
        """An attempt that was outrun before it was sent; and of a request that was held, what it had looked at before
        the configuration changed."""
        if unseen == 1 and route.hedges and may_race(asked):
            return True
        looks = sum(a.verdict == "Loading" for a in attempts)
        return route.holds and -looks <= unseen < 0

    def _kind(self, asked: Asked, last: Attempt) -> End | None:
        """What the client has, judged by its content alone; None when it is none of the right ones."""
        text = last.last.text
        if asked.status != 200:
            fault = last.fault
            return End.CALLER if (asked.status, asked.body) == (fault.status, fault.body.decode()) else None
        if asked.stream:
            if asked.broken_events or not asked.whole:
                return None
            if asked.text == text and asked.finished and (asked.done_events, asked.error_events) == (1, 0):
                return End.WHOLE
            words = last.fault.words
            exact = words and last.sure and not last.fault.lossy
            right = asked.text == start_of(text, words) if exact else asked.text and text.startswith(asked.text)
            return End.BREAK if right and (asked.done_events, asked.error_events) == (0, 1) else None
        if asked.whole:
            return End.WHOLE if asked.text == text else None
        return End.ABORT if text.split(" ")[0] in asked.body else None

    def _agreed(self, asked: Asked, route: RouteSpec, attempts: Sequence[Attempt], why: str, whose: Attempt) -> None:
        """Everybody said the same, and the client has it."""
        same = all(why in (*a.whys, a.verdict) or not a.sure for a in attempts)
        body = whose.fault.body.decode()
        passed_on = asked.status == whose.fault.status and (asked.stream or asked.body == body) and not asked.text
        if why == "Unfit":
            passed_on = (asked.status, asked.body) == (whose.fault.status, body)
        if route.sure and asked.fallback:
            self._find(asked.request, f"was failed with {why}, though {route.targets[-1]} would have answered")
        elif not same or not passed_on or asked.backend != whose.backend:
            self._find(asked.request, f"got {asked.status} of {asked.backend}, which is not what all said ({why})")
        else:
            self.verdict.results[f"what all said: {why}"] += 1

    def _refused(self, asked: Asked, route: RouteSpec, own: refusal.Refusal, attempts: Sequence[Attempt]) -> None:
        if route.sure and asked.fallback:
            self._find(asked.request, f"was failed with {asked.status}, though {route.targets[-1]} would have answered")
            return
        problems, unseen = refusal.check(own, asked, route, attempts, self.evidence, reloads=self._reloads)
        self.verdict.unseen[asked.request] = unseen
        for problem in problems:
            self._find(asked.request, problem)
        self.verdict.results["refused within a stream" if asked.patient else f"refused with {asked.status}"] += 1

    def _gone(self, asked: Asked, route: RouteSpec, attempts: Sequence[Attempt], unseen: int) -> bool:
        """Could so many attempts have failed before a backend heard of them?"""
        e = self.evidence
        begin, end = asked.at, asked.done
        possible = sum(e.down(b, begin, end) or e.spoke_unasked(b, begin, end) for b in route.targets)
        return 0 < unseen <= 2 * possible

    # ---- the order

    def _order(self, asked: Asked, attempts: Sequence[Attempt]) -> None:
        """Nobody is passed over without a reason, nobody asked twice while another is left."""
        route = self._world.routes[asked.model]
        moves = self._moves.get(asked.request, []) if self._moves is not None else []
        origins = {m.origin for m in moves if m.reason not in BARRED}
        origins |= {a.backend for a in attempts if a.raced}
        before: set[str] = set()
        for n, attempt in enumerate(attempts):
            at = attempt.arrivals[0].at
            if attempt.backend not in route.targets:
                self._find(asked.request, f"was sent to {attempt.backend}, which is no target of its route")
                continue
            known = before | origins
            twice = attempt.backend in before
            place = len(route.targets) if twice else route.targets.index(attempt.backend)
            for other in route.targets[:place]:
                if other not in known and other != attempt.backend and asked.fallback and route.fallback:
                    # An attempt that no backend saw leaves no trace but the gateway's own.
                    e = self.evidence
                    times = _between(self._chosen(asked, attempt), at)
                    excuse = any(e.barred(other, asked.model, t) for t in times) or e.down(other, asked.at, at)
                    if not excuse and not self._spared(route, attempts[:n]):
                        what = "was asked twice" if twice else "was asked"
                        self._find(asked.request, f"{attempt.backend} {what} though {other} was left")
            if twice:
                last = next(a for a in reversed(attempts[:n]) if a.backend == attempt.backend)
                if last.sure and not last.whys & RETRYABLE:
                    self._find(asked.request, f"{attempt.backend} was asked again after {last.last.fault}")
            if not (route.holds and attempt.verdict == "Loading"):
                # Who was found loading by a request that waits for him was only looked at.
                before.add(attempt.backend)
        # What was cut by a backend that went down may have been sent again, to nobody: that costs nothing.
        paid = sum(a.sure and not (route.holds and a.verdict == "Loading") for a in attempts)
        if paid > route.attempts:
            self._find(asked.request, f"made {paid} attempts, more than {route.attempts}")

    def _waits(self, asked: Asked, route: RouteSpec, attempts: Sequence[Attempt]) -> None:
        """Who was passed over as full or as loading was waited for as long as the manifests say, unless too many were
        waiting for him already."""
        for move in (self._moves or {}).get(asked.request, ()):
            after = next((a.arrivals[0].at for a in attempts if a.backend == move.target), None)
            capacity = LIMITED.get(move.origin)
            if after is None or asked.attempts != len(attempts):
                continue
            if route.targets.index(move.target) < route.targets.index(move.origin):
                continue  # who was out is back, and goes first
            if move.reason == "AtLimit" and capacity is not None and capacity.queued:
                routes = [r.model for r in self._world.routes.values() if move.origin in r.targets]
                patience, most = capacity.timeout, capacity.in_flight + capacity.queued
            elif move.reason == "Loading" and route.holds:
                if any(a.verdict != "Loading" for a in attempts if a.arrivals[0].at < after):
                    continue
                routes, patience, most = [route.model], HOLD, HELD
            else:
                continue
            if self.evidence.barred(move.origin, asked.model, after) not in ("", move.reason):
                continue  # nobody waits for who is out for another reason
            if self.evidence.answered(move.origin, asked.at, after):
                continue  # nor is one loading who has just answered another
            waited = after - asked.at
            if waited < patience - BLUR and self._open(routes, asked.at, after) <= most:
                self._find(asked.request, f"waited {waited:.2f} s for {move.origin} ({move.reason}) and went on")

    def _open(self, routes: Sequence[str], begin: float, end: float) -> int:
        """How many requests of these routes were under way between the two."""
        return sum(
            1
            for name in routes
            for a in self._by_route[name][: bisect_right(self._by_route[name], end, key=lambda a: a.at)]
            if a.done >= begin
        )

    @staticmethod
    def _spared(route: RouteSpec, before: Sequence[Attempt]) -> bool:
        return len(before) >= route.attempts

    def _reasons(self, asked: Asked, attempts: Sequence[Attempt]) -> None:
        """The reasons that the gateway gave for moving on are those of the table."""
        if self._moves is None:
            return
        route = self._world.routes[asked.model]
        moves = list(self._moves.get(asked.request, ()))
        here = [a.backend for a in attempts]
        later = [*here[1:], *here[-1:]]
        # Those that must have told of it come first: one who is asked twice in a row need not.
        for attempt, after in sorted(zip(attempts, later, strict=True), key=lambda pair: pair[0].backend == pair[1]):
            if End.ON not in attempt.ends:
                continue
            from_here = [m for m in moves if m.origin == attempt.backend]
            # Some words are both a verdict's reason and an obstacle's.
            move = next((m for m in from_here if not attempt.whys or m.reason in attempt.whys), None)
            if move is not None:
                moves.remove(move)
            elif attempt.raced or (route.hedges and may_race(asked)):
                continue  # of those that run beside each other only the last to end is told of
            elif route.holds and self._reloads and attempt.verdict == "Loading":
                continue  # a look that was forgotten with the configuration before
            elif after != attempt.backend and not any(self._unseen(asked, m) for m in from_here):
                # (It may have been asked once more, by an attempt that it never saw.)
                told = from_here[0].reason if from_here else "nothing"
                self._find(asked.request, f"{attempt.last.fault} of {attempt.backend} was taken for {told}")
        for move in moves:
            if move.reason in BARRED:
                right = move.reason in ("BackendNotFound", "NoEndpoint") and self._reloads
                # Who waits decides when the wait is over.
                last = max((a.arrivals[0].at for a in attempts if a.backend == move.target), default=asked.done)
                e = self.evidence
                right = right or any(
                    e.bears_out(move.origin, asked.model, move.reason, t) for t in _between(asked.at, last)
                )
                if not right:
                    self._find(asked.request, f"{move.origin} was passed over as {move.reason}, which it was not")
            elif not (move.reason in BROKEN_OFF and may_race(asked)) and not self._unseen(asked, move):
                self._find(asked.request, f"moved on from {move.origin} for {move.reason}, which nothing bears out")

    def _unseen(self, asked: Asked, move: Move) -> bool:
        return self.evidence.fails_with(move.origin, move.reason, asked.at, asked.done)


def _between(begin: float, end: float) -> list[float]:
    """Moments from one to the other, near enough for the haze. Mostly they are one: but a request may have waited, or
    have been sent on a connection that a busy machine took its time to open."""
    return [begin + n * HAZE for n in range(int((end - begin) / HAZE) + 1)] + [end]
