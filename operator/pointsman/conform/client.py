"""The client's side: one chat request on a connection of its own, and what came of it, truncated or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from pointsman.conform.observed import Answer

_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)
_NONE = Answer(0, {}, b"", whole=False, stream=False)


class Client:
    """`gateway` is the base URL, with or without `/v1`. `seconds` bounds each request. Use within `async with`."""

    def __init__(self, gateway: str, key: str | None, seconds: float, headers: Mapping[str, str] | None = None) -> None:
        base = gateway.rstrip("/")
        self._url = f"{base if base.endswith('/v1') else base + '/v1'}/chat/completions"
        self._headers = {"accept-encoding": "identity", "content-type": "application/json"} | dict(headers or {})
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(force_close=True)
        self._http = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()

    async def ask(self, model: str, prompt: str, stream: bool, *, expects: bool = False) -> Answer:
        """The answer as far as it came. `expects`: the body is sent after `100 Continue`."""
        body = b""
        try:
            body_sent = _body(model, prompt, stream)
            async with self._http.post(self._url, data=body_sent, allow_redirects=False, expect100=expects) as got:
                whole = True
                try:
                    async for piece in got.content.iter_any():
                        body += piece
                except _BROKEN:
                    whole = False
                headers = {k.lower(): v for k, v in got.headers.items()}
                return Answer(got.status, headers, body, whole, stream)
        except _BROKEN:
            return _NONE

    async def leave(self, model: str, prompt: str, asked: Callable[[], Awaitable[None]], after: str) -> None:
        """Goes away when the backend was asked and, unless empty, `after` came. Raises `TimeoutError`."""
        task = asyncio.create_task(self._until(model, prompt, after))
        try:
            await asked()
            if after:
                await task
            else:
                await asyncio.sleep(0.05)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _until(self, model: str, prompt: str, text: str) -> None:
        body = b""
        async with self._http.post(self._url, data=_body(model, prompt, True)) as got:
            async for piece in got.content.iter_any():
                body += piece
                if text and text.encode() in body:
                    return


def _body(model: str, prompt: str, stream: bool) -> bytes:
    value: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
    if stream:
        value["stream"] = True
    return json.dumps(value).encode()
