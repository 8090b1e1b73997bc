from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop
from tests.support.upstream import Upstream

from pointsman.simulator.behaviour import Behaviour


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], object]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., object]]:
    """Starts backends, each with its script; stops them all in the end."""
    started: list[Upstream] = []

    async def start(*script: Behaviour, **how: object) -> Upstream:
        one = Upstream(script)
        started.append(one)
        return await one.start(**how)  # type: ignore[arg-type]

    yield start
    for one in started:
        await one.stop()


@pytest.fixture(autouse=True)
def no_silent_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An exception that the loop swallowed is a failure of the test."""
    yield
    found = [r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio" and r.levelname == "ERROR"]
    assert not found
