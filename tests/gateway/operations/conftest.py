from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import uvloop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], object]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_silent_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An exception that the loop swallowed is a failure of the test."""
    yield
    found = [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelname == "ERROR"]
    assert not found
