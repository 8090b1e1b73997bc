"""The load: chat requests by wrk, and what it saw. A run with one bad answer is void."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process import LOAD_CORE, Process

CHAT_BYTES = 982
LONG_BYTES = 1_000_000
PROMPTS = 61
"""Prompts that differ in text and length: no gateway can answer for one with what it learnt of another."""
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Load:
    connections: int
    seconds: float
    stream: bool = False
    size: int = CHAT_BYTES
    """Bytes of the request's body."""
    model: str = "chat"
    per_second: int | None = None
    """Requests of all connections together, each after a pause by chance; None: as many as it can."""


@dataclass(frozen=True)
class Seen:
    requests: int
    per_second: float
    p50_us: float
    p99_us: float


def bodies(load: Load) -> list[bytes]:
    """Requests of `load.size` bytes on average, each with another prompt; two of those that are large."""
    count = PROMPTS if load.size < LONG_BYTES else 2
    return [body(load.stream, load.size + 4 * (n - count // 2), load.model, number=n) for n in range(count)]


def body(stream: bool, size: int = CHAT_BYTES, model: str = "chat", number: int = 0) -> bytes:
    """A chat request of so many bytes; the `number` stands in its prompt."""
    value = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": ""},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        "stream": stream,
    }
    sentence = f"Tell me about switch {number} of a railway yard and who sets it. "
    room = size - len(json.dumps(value))
    value["messages"][1]["content"] = (sentence * (room // len(sentence) + 1))[:room]  # type: ignore[index]
    return json.dumps(value).encode()


def wrk(port: int, load: Load, scratch: Path) -> Seen:
    """Raises RuntimeError on any bad answer."""
    script = scratch / "post.lua"
    lines = [
        'wrk.method = "POST"',
        'wrk.headers["Content-Type"] = "application/json"',
        f"local bodies = {{{', '.join(f'[==[{b.decode()}]==]' for b in bodies(load))}}}",
        "local requests, turn = {}, 0",
        "init = function() for n, body in ipairs(bodies) do requests[n] = wrk.format(nil, nil, nil, body) end end",
        "request = function() turn = turn % #requests + 1; return requests[turn] end",
        "done = function(s, l, r) io.write(string.format('\\nRESULT %d %d %d %d %d\\n', s.requests, s.duration,"
        " l:percentile(50), l:percentile(99),"
        " s.errors.status + s.errors.read + s.errors.write + s.errors.connect + s.errors.timeout)) end",
    ]
    if load.per_second:
        longest = 2000 * load.connections // load.per_second
        lines.append(f"delay = function() return math.random(0, {longest}) end")
    script.write_text("\n".join(lines))
    argv = [
        "taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s",
        "--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}{PATH}",
    ]  # fmt: skip
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None or int(found[1]) == 0 or int(found[5]):
        raise RuntimeError(f"a bad run of wrk: {done.stdout[-600:]}{done.stderr[-300:]}")
    requests, duration = int(found[1]), int(found[2])
    return Seen(requests, requests / duration * 1e6, float(found[3]), float(found[4]))


def wait_until_it_serves(process: Process, port: int, *, stream: bool = False, seconds: float = 90.0) -> None:
    """Returns after the first good answer. Raises RuntimeError with what came instead."""
    end = time.monotonic() + seconds
    while True:
        process.check()
        try:
            status, text = ask(port, stream=stream)
        except OSError as error:
            status, text = 0, str(error)
        if status == 200:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"no good answer within {seconds:.0f} s: {status} {text[:300]}")
        time.sleep(0.1)


def ask(port: int, path: str = PATH, *, stream: bool = False) -> tuple[int, str]:
    """A chat request, or a GET of another path. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        if path == PATH:
            connection.request("POST", path, body(stream), {"Content-Type": "application/json"})
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
