"""Runs scenarios against a gateway: waits until it uses its first backend again, injects the fault, watches both sides.

A gateway's memory of earlier faults is reset only as its users could: by waiting. With several model names that lead to
the same two backends, what it remembers of one name holds up nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pointsman.conform.backends import FIRST, SECOND, Backends, Mark
from pointsman.conform.client import Client
from pointsman.conform.judge import PROMPT_SECONDS, judge, leave_seconds, summary
from pointsman.conform.observed import Answer, Observed
from pointsman.conform.result import Outcome, Result
from pointsman.conform.scenario import Down, Right, Scenario
from pointsman.simulator.behaviour import says

GOOD_IN_A_ROW = 16
"""Answers of the first backend before a scenario begins: a gateway that ejects by the share of failures sees mostly
good ones, and a ramp of 1, 2, 4 and 8 trials is over."""
_PAUSE = 0.1
_GREET_SECONDS = 10.0
_SHORT_SECONDS = 1.5
"""For one name when there are others, and for all once a wait was in vain."""


class NotServing(Exception):
    """The gateway does not give the first backend's answers at all: the message says what came."""


@dataclass
class Runner:
    """`timeout`: seconds until the gateway gives up on a silent backend, 0 when it never does. `recovery`: seconds that
    it may take to use its first backend again. `prompt`: those that an answer may take where nobody is silent."""

    client: Client
    backends: Backends
    models: Sequence[str]
    timeout: float
    recovery: float
    prompt: float = PROMPT_SECONDS

    def __post_init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._names = list(self.models)
        self._checks = 0
        self._requests = 0
        self._doubtful = set(self.models)
        """Names of which nobody knows whether the second backend serves them."""
        self._in_vain = False

    async def greet(self) -> None:
        """Raises `NotServing` unless each name is answered by the first backend, soon: a gateway that ran before the
        backends did may need a moment to notice them."""
        end = time.monotonic() + min(self.recovery, _GREET_SECONDS)
        for name in self.models:
            while not (check := await self._check(name))[1]:
                if time.monotonic() > end:
                    raise NotServing(_what_came(name, check[0]))
                await asyncio.sleep(_PAUSE)

    async def run(self, scenarios: Sequence[Scenario]) -> AsyncIterator[Result]:
        for scenario in scenarios:
            if scenario.silent and not self.timeout:
                yield Result(scenario, Outcome.NOT_APPLICABLE, "the gateway waits for ever, as --timeout 0 says")
                continue
            name = await self._settled()
            if name is None:
                saw = "the first backend, good again, got no traffic in time"
                yield Result(scenario, Outcome.NOT_RECOVERED, saw)
                continue
            yield await self._one(scenario, name)
            if scenario.second != (says,) or scenario.down is Down.BOTH:
                self._doubtful = set(self.models)
            if scenario.lingers and len(self._names) > 1:
                self._names.append(self._names.pop(0))

    # ---- one scenario

    async def _one(self, scenario: Scenario, name: str) -> Result:
        backends = self.backends
        backends.begin(scenario)
        if scenario.down is not Down.NONE:
            await backends.first.refuse()
        if scenario.down is Down.BOTH:
            await backends.second.refuse()
        try:
            if scenario.returns is not None:
                observed, problems = await self._returning(scenario, name, scenario.returns)
            else:
                observed, problems = await self._each(scenario, name)
        finally:
            first, second = backends.count(FIRST), backends.count(SECOND)
            backends.begin(None)
            await backends.first.listen_again()
            await backends.second.listen_again()
        outcome = Outcome.FAIL if problems else Outcome.PASS
        saw = "; ".join(dict.fromkeys(problems)) or summary(observed[-1])
        return Result(scenario, outcome, saw, max(o.ms for o in observed), first, second)

    async def _each(self, scenario: Scenario, name: str) -> tuple[list[Observed], list[str]]:
        observed = []
        problems: list[str] = []
        for _ in range(scenario.requests):
            seen = await (self._leave if scenario.right is Right.LEAVE else self._ask)(scenario, name)
            observed.append(seen)
            problems += judge(scenario, seen, self.timeout, self.prompt)
        if scenario.unharmed and not (await self._check(name))[1]:
            problems.append("the first backend was left out for what was the request's own fault")
        return observed, problems

    async def _returning(self, scenario: Scenario, name: str, pause: float) -> tuple[list[Observed], list[str]]:
        """The first backend asked for a pause: is it left alone meanwhile, and used again afterwards?"""
        observed = [await self._ask(scenario, name)]
        busy_at = time.monotonic()
        problems: list[str] = []
        while time.monotonic() < busy_at + pause + self.recovery:
            observed.append(await self._ask(scenario, name))
            early = time.monotonic() < busy_at + pause * 0.9
            if observed[-1].first:
                if early:
                    problems.append(f"the first backend was asked again before the {pause:.0f} s that it asked for")
                break
            await asyncio.sleep(_PAUSE)
        else:
            problems.append(f"the first backend was not used again within {self.recovery:.0f} s")
        for seen in observed:
            problems += judge(scenario, seen, self.timeout, self.prompt)
        return observed, problems

    async def _ask(self, scenario: Scenario, name: str) -> Observed:
        mark = self._mark(self.backends.number)
        began = time.monotonic()
        prompt = f"Say something. {mark}" + " more" * (scenario.prompt_bytes // 5)
        answer = await self.client.ask(name, prompt, scenario.stream, expects=scenario.expects)
        return self._observed(mark, answer, began)

    async def _leave(self, scenario: Scenario, name: str) -> Observed:
        mark = self._mark(self.backends.number)
        began = time.monotonic()
        left_ms = None
        try:
            await self.client.leave(
                name, f"Say something. {mark}", lambda: self._asked(mark), scenario.leave_after or ""
            )
            left = time.monotonic()
            request = await self.backends.asked(mark, 0.1)
            async with asyncio.timeout(leave_seconds(self.prompt)):
                await request.left.wait()
            left_ms = (time.monotonic() - left) * 1000
            await asyncio.sleep(_PAUSE)  # time for a mistaken fallback
        except TimeoutError:
            pass
        return self._observed(mark, Answer(200, {}, b"", whole=False, stream=True), began, left_ms)

    async def _asked(self, mark: Mark) -> None:
        await self.backends.asked(mark, self.prompt)

    def _observed(self, mark: Mark, answer: Answer, began: float, left_ms: float | None = None) -> Observed:
        backends = self.backends
        ms = (time.monotonic() - began) * 1000
        texts = backends.text(FIRST, str(mark)), backends.text(SECOND, str(mark))
        counts = backends.count(FIRST, mark), backends.count(SECOND, mark)
        addresses = tuple(f"{b.host}:{b.port}" for b in (backends.first, backends.second))
        return Observed(answer, ms, *counts, *texts, left_ms, addresses)

    def _mark(self, scenario: int) -> Mark:
        self._requests += 1
        return Mark(self._run, scenario, self._requests)

    # ---- between scenarios

    async def _settled(self) -> str | None:
        """A name that the first backend serves again, and the second behind it."""
        end = time.monotonic() + (_SHORT_SECONDS if self._in_vain else self.recovery)
        while time.monotonic() < end:
            limit = min(_SHORT_SECONDS, end - time.monotonic()) if len(self._names) > 1 else end - time.monotonic()
            name = self._names[0]
            try:
                async with asyncio.timeout(limit):
                    await self._settle(name)
                self._in_vain = False
                return name
            except TimeoutError:
                self.backends.first_fails = False
                self._names.append(self._names.pop(0))
        self._in_vain = True
        return None

    async def _settle(self, name: str) -> None:
        """Until the first backend serves, and the second too where that is in doubt."""
        while True:
            await self._first_serves(name)
            if name not in self._doubtful:
                return
            self.backends.first_fails = True
            got, _ = await self._check(name)
            self.backends.first_fails = False
            if got.text.startswith(SECOND):
                self._doubtful.discard(name)
            else:
                await asyncio.sleep(_PAUSE)

    async def _first_serves(self, name: str) -> None:
        row = 0
        while row < GOOD_IN_A_ROW:
            _, by_first = await self._check(name)
            row = row + 1 if by_first else 0
            if not by_first:
                await asyncio.sleep(_PAUSE)

    async def _check(self, name: str) -> tuple[Answer, bool]:
        mark = self._mark(0)
        got = await self.client.ask(name, f"Are you well? {mark}", False)
        return got, got.text == self.backends.text(FIRST, str(mark))


def _what_came(name: str, got: Answer) -> str:
    if got.status == 0:
        return f"no answer came for model {name}"
    if got.text.startswith(SECOND):
        return f"model {name} is served by the second backend: is the first one the first choice?"
    return f"model {name} got {got.status}: {got.body[:200].decode('utf-8', 'replace')}"
