"""GETs as every source over HTTP makes them: redirects, credentials, ranges, and what each status means.

Rules:
- Only the source's own origin (scheme, host, port) gets an `Authorization` header; a redirect target never.
- A redirect from TLS to plain text is not followed, unless the source itself is spoken to in plain text.
- A refusal by a redirect target is an expired signature: it passes by itself, for the next try gets a fresh one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import httpx

from pointsman.models.auth import Challenge, read_challenge, same_origin
from pointsman.models.errors import PullError, PullReason
from pointsman.models.origin import BlobStream, PassingFailure
from pointsman.models.transport import failure
from pointsman.models.window import bound

_MAX_HOPS = 8
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SMALL_BODY = 64 << 10


class Authorization(Protocol):
    """Shows credentials to one origin."""

    def header_for(self, url: httpx.URL) -> dict[str, str]:
        """The headers for a request to this URL."""
        ...

    async def answer(self, client: httpx.AsyncClient, challenge: Challenge) -> bool:
        """Gets what a 401 asks for; False when there is nothing (more) to show."""
        ...


class Requests:
    """GETs of one source. One at a time each; no retries here."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base: httpx.URL,
        authorization: Authorization,
        denied: Callable[[httpx.Response], PullError],
        *,
        plain_http: bool = False,
    ) -> None:
        """`denied` makes the failure of an answer 401 or 403 from the source's own origin."""
        self.base = base
        self.host = base.netloc.decode()
        self._client = client
        self._authorization = authorization
        self._denied = denied
        self._plain_http = plain_http
        self._handshake = asyncio.Lock()

    @asynccontextmanager
    async def get(self, url: httpx.URL, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer after all redirects, its body not yet read, whatever its status. Raises `PullError`."""
        response = await self._follow(url, headers)
        try:
            yield response
        finally:
            await response.aclose()

    @asynccontextmanager
    async def open_range(
        self,
        url: httpx.URL,
        size: int,
        start: int,
        end: int,
        headers: Mapping[str, str] | None = None,
        check: Callable[[httpx.Response], None] = lambda _: None,
    ) -> AsyncIterator[BlobStream]:
        """Opens bytes `start` (included) to `end` (excluded) of something of `size` bytes; `check` looks at the answer
        first. Raises `PullError`."""
        whole = start == 0 and end == size
        wanted = dict(headers or {})
        if not whole:
            wanted["Range"] = f"bytes={start}-{end - 1}"
        async with self.get(url, wanted) as response:
            self.check_status(response)
            check(response)
            if response.status_code == 206:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if not found or int(found[1]) != start or found[3] not in ("*", str(size)):
                    raise self.broken("answered another range than was asked for")
                first, ranged = start, True
            else:
                length = response.headers.get("content-length")
                if length is not None and length != str(size):
                    raise self.broken("has a file of another size than it said before")
                first, ranged = 0, whole
            yield BlobStream(first, ranged, self.chunks(response))

    async def _follow(self, first: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
        """Follows redirects and answers a 401, once."""
        url, challenged = first, False
        for _ in range(_MAX_HOPS):
            shown = self._authorization.header_for(url)
            request = self._client.build_request("GET", url, headers={**headers, **shown})
            try:
                response = await self._client.send(request, stream=True)
                _bound(response)
                if response.is_redirect:
                    url = self._redirect(url, response)
                    await _finish(response)
                    continue
                if response.status_code == 401 and same_origin(url, self.base) and not challenged:
                    challenged = True
                    if await self._answered(response, shown):
                        await _finish(response)
                        url = first
                        continue
            except httpx.TransportError as error:
                raise self._transport_failure(error, url) from None
            return response
        raise self.broken("redirects in circles")

    def _redirect(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        try:
            target = url.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            raise self.broken("redirects to something that is no address") from None
        if target.scheme != "https" and not (target.scheme == "http" and self._plain_http):
            raise PullError(
                PullReason.REGISTRY_ERROR, f"{self.host} redirects from TLS to plain text, which is not followed."
            )
        return target

    async def _answered(self, response: httpx.Response, shown: dict[str, str]) -> bool:
        """True when there are other credentials to show now."""
        async with self._handshake:
            if self._authorization.header_for(self.base) != shown:
                return True  # another request of ours has renewed them meanwhile
            challenge = read_challenge(response.headers.get("www-authenticate", ""))
            return await self._authorization.answer(self._client, challenge)

    def check_status(self, response: httpx.Response) -> None:
        """Passes 200 and 206. Raises `PullError`."""
        status = response.status_code
        if status in (200, 206):
            return
        own = same_origin(response.url, self.base)
        if status == 412:  # of an `If-Match` of ours
            raise PullError(
                PullReason.REGISTRY_ERROR,
                f"{response.url.path} was changed while it was pulled; the next try begins anew.",
            )
        if status in (401, 403) and own:
            raise self._denied(response)
        host = self.host if own else f"{response.url.host}, to which {self.host} redirects,"
        raise PassingFailure(
            PullReason.REGISTRY_ERROR,
            f"{host} answered {status}; it is tried again, but look at the source if this stays.",
            _retry_after(response),
        )

    async def body(self, response: httpx.Response, limit: int) -> bytes:
        """A small answer's whole body. Raises `PassingFailure`, also when it has more bytes than `limit`."""
        body = bytearray()
        async for chunk in self.chunks(response):
            body += chunk
            if len(body) > limit:
                raise self.broken(f"answered more than the {limit >> 20} MiB that are allowed here")
        return bytes(body)

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `PassingFailure`."""
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.TransportError as error:
            raise self._transport_failure(error, response.url) from None

    def _transport_failure(self, error: httpx.TransportError, url: httpx.URL) -> PullError:
        found = failure(error, url.netloc.decode())
        if found.reason is PullReason.REGISTRY_UNREACHABLE:
            return PassingFailure(found.reason, found.message)
        return found

    def unreachable(self, text: str, *, timeout: bool = False) -> PullError:
        """Another library could not reach the source; `text` is what it said."""
        kind = httpx.ReadTimeout if timeout else httpx.ConnectError
        return self._transport_failure(kind(text), self.base)

    def broken(self, what: str) -> PassingFailure:
        """The source does something that makes no sense."""
        return PassingFailure(PullReason.REGISTRY_ERROR, f"{self.host} {what}; look at the source.")


def _bound(response: httpx.Response) -> None:
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        with suppress(OSError):  # no TCP, or a kernel that does not know it: a kill may cost more then
            bound(connection)


async def _finish(response: httpx.Response) -> None:
    """Reads a small rest so that the connection can be used again, drops a large one."""
    if int(response.headers.get("content-length") or _SMALL_BODY + 1) <= _SMALL_BODY:
        await response.aread()
    await response.aclose()


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
