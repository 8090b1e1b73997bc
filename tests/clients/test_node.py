"""The official npm client, unmodified, through the gateway: the cases are in `node.cjs`.

The cases tell the backends how to behave over a socket of their own; each starts with a line as new.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.clients.conftest import Line
from tests.clients.programs import node, npm_openai
from tests.support.engine import Engine

SCRIPT = Path(__file__).with_name("node.cjs")

# The first run on a machine fetches the package.
pytestmark = pytest.mark.timeout(600)


async def test_npm_client(line: Line) -> None:
    client, program = npm_openai(), node()
    async with Engine({"/": _knobs(line)}) as knobs:
        where = {"CLIENT": str(client), "GATEWAY": line.url, "KNOBS": knobs.url + "/"}
        process = await asyncio.create_subprocess_exec(
            program, "--test", "--test-reporter=tap", SCRIPT,
            env=os.environ | where, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    cases = SCRIPT.read_text().count('\ntest("')
    assert re.search(rf"^# pass {cases}$", said, re.MULTILINE), said


def _knobs(line: Line) -> Any:
    """What comes is how the backends behave from now on; what goes back is what happened since the last time."""
    seen = 0

    async def turn(request: web.Request) -> web.StreamResponse:
        nonlocal seen
        wanted = await request.json()
        backends = {"first": line.first, "second": line.second}
        if wanted.get("wait") == "left":
            await asyncio.wait_for(line.first.left.wait(), 10)
        happened = {
            "requests": len(line.gateway.meter.requests) - seen,
            "asked": [body for _, body in line.first.bodies],
            "left": line.first.left.is_set(),
        }
        seen = len(line.gateway.meter.requests)
        for name, backend in backends.items():
            backend.heals()
            backend.breaks = wanted.get("breaks", False)
            backend.endless = wanted.get("endless", False)
            backend.silent = wanted.get("silent", False)
            backend.left.clear()
            if name in wanted.get("fails", {}):
                backend.fails(wanted["fails"][name])
        line.forget()
        return web.json_response(happened)

    return turn
