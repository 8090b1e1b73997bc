"""A soak: whole answers, streams, clients that leave in the midst of either; does the gateway keep anything of them?

Memory is looked at every second, once it is warm. What is looked at is cut into blocks; the slope is the line of least
squares through their medians, and its error the 95 % interval of that line: seconds are no independent samples, for
memory moves in steps, and blocks nearly are. After the load, open files must be as few as before and the gateway's own
figures zero.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression, median

import uvloop
from tests.bench import backends, streams
from tests.bench.idle import back_to, settled
from tests.bench.load import Load, ask, wait_until_it_serves, wrk
from tests.bench.peers import manifests, pointsman
from tests.bench.process import GATEWAY_CORE, Process, running
from tests.cluster.cache import REPOSITORY
from tests.support.ports import free_port

WARM = 0.5
"""The part of the run that is not looked at."""
WARM_SECONDS = 240.0
"""It is not longer than this: by then, some five million answers, memory has grown by most of what it grows by. Later
it goes up and down by a megabyte, over ten minutes and more: a short soak may end on the way up."""
BLOCKS = 8
_T_95 = 2.447
"""Student's t for as many blocks, less two."""
GROWN_MB = 1.0
"""What the slope, less its error, may come to over the part that is looked at: a few bytes a request would be more."""
POOL_SECONDS = 40.0
"""After this no connection rests in a pool any more."""
_LEAVES_PER_SECOND = 20
_FIGURES = re.compile(r"^pointsman_(?:requests_in_flight|in_flight|queued|held)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Slope:
    mb_minute: float
    error_mb_minute: float
    """With 95 % confidence the slope is within so much of it."""
    minutes: float

    @property
    def least_grown_mb(self) -> float:
        """What memory has grown by at least, by that confidence."""
        return (self.mb_minute - self.error_mb_minute) * self.minutes


@dataclass(frozen=True)
class Soak:
    seconds: float
    requests: int
    streams: int
    left: int
    """Clients that went away in the midst of a request or an answer."""
    resident_mb: tuple[float, float]
    """At the start of the part that is looked at, and at its end."""
    slope: Slope
    """Over that part."""
    by_minute: tuple[float, ...]
    """Resident MB, the median of each minute of the whole run."""
    files_left: int
    """Open files more than before, once the pools are empty."""
    in_flight: float
    """What the gateway still counts as in flight, queued or held."""

    @property
    def clean(self) -> bool:
        return self.slope.least_grown_mb < GROWN_MB and not self.files_left and not self.in_flight


def soak(seconds: float, scratch: Path) -> Soak:
    """Raises RuntimeError on any bad answer."""
    port, admin = free_port(), free_port()
    with backends.nginx(scratch) as whole, backends.mock("stream", scratch) as streamed:
        command = pointsman(manifests(scratch, {"chat": whole, "talk": streamed}), port, admin)
        with running(
            command.argv, GATEWAY_CORE, port, scratch / "soak.log", cwd=REPOSITORY, env=command.env,
            out=Path("/dev/null"),
        ) as process:  # fmt: skip
            wait_until_it_serves(process, port)
            return _soak(process, port, admin, seconds, scratch)


def _soak(process: Process, port: int, admin: int, seconds: float, scratch: Path) -> Soak:
    files = uvloop.run(settled(process))
    loads = [Load(16, seconds), Load(8, seconds, stream=True, model="talk")]
    done: list[int | Exception] = [0] * len(loads)
    left = 0

    def load(n: int) -> None:
        place = scratch / f"load-{n}"
        place.mkdir()
        try:
            done[n] = wrk(port, loads[n], place).requests
        except Exception as error:
            done[n] = error

    def leave() -> None:
        nonlocal left
        left = uvloop.run(leaving(port, seconds))

    threads = [threading.Thread(target=load, args=(n,)) for n in range(len(loads))]
    threads.append(threading.Thread(target=leave))
    for thread in threads:
        thread.start()
    course = sampled(process, seconds)
    for thread in threads:
        thread.join()
    for outcome in done:
        if isinstance(outcome, Exception):
            raise RuntimeError(f"the soak ended with a bad answer: {outcome}")
    requests, talks = (int(d) for d in done if not isinstance(d, Exception))
    files_left = uvloop.run(back_to(process, files, POOL_SECONDS))
    samples = looked_at(course, seconds)
    ends = (samples[0][1], samples[-1][1])
    return Soak(
        seconds, requests, talks, left, ends, slope_of(samples), by_minute(course), files_left, in_flight(admin)
    )


def warm_up(seconds: float) -> float:
    """The seconds of a soak of this length that are not looked at."""
    return min(seconds * WARM, WARM_SECONDS)


def sampled(process: Process, seconds: float) -> list[tuple[float, float]]:
    """(second, resident MB) of the whole run."""
    samples = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        samples.append((now, process.resident_mb()))
        time.sleep(min(1.0, seconds / 30))
    return samples


def looked_at(course: Sequence[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    """The part of a run of so many seconds that counts."""
    return [(at, mb) for at, mb in course if at > warm_up(seconds)]


def by_minute(course: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    minutes: dict[int, list[float]] = {}
    for at, mb in course:
        minutes.setdefault(int(at // 60), []).append(mb)
    return tuple(median(seen) for seen in minutes.values())


def slope_of(samples: Sequence[tuple[float, float]]) -> Slope:
    """Of (second, MB), which must be at least as many as blocks."""
    size = len(samples) / BLOCKS
    blocks = [samples[round(n * size) : round((n + 1) * size)] for n in range(BLOCKS)]
    minutes = [fmean(at for at, _ in block) / 60 for block in blocks]
    medians = [median(mb for _, mb in block) for block in blocks]
    line = linear_regression(minutes, medians)
    left = sum((y - line.intercept - line.slope * x) ** 2 for x, y in zip(minutes, medians, strict=True))
    middle = fmean(minutes)
    error = (left / (BLOCKS - 2) / sum((x - middle) ** 2 for x in minutes)) ** 0.5
    return Slope(line.slope, _T_95 * error, (samples[-1][0] - samples[0][0]) / 60)


async def leaving(port: int, seconds: float, model: str = "talk") -> int:
    """Clients that go away, some a second, after half a request or after the first token: how many did."""
    loop = asyncio.get_running_loop()
    half = streams.request(model)[:-500]
    end = time.monotonic() + seconds
    left = 0
    while time.monotonic() < end:
        if left % 2:
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            transport.write(half)
            await asyncio.sleep(0)
            transport.abort()
        else:
            streams.close([await streams.begin(port, left, model)])
        left += 1
        await asyncio.sleep(1 / _LEAVES_PER_SECOND)
    return left


def in_flight(admin: int) -> float:
    """The sum of what the gateway's metrics say is going on."""
    status, text = ask(admin, "/metrics")
    found = _FIGURES.findall(text)
    if status != 200 or not found:
        raise RuntimeError(f"no figures from the admin port: {status} {text[:200]}")
    return sum(float(value) for value in found)
