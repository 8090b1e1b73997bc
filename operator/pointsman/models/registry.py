"""A client of Ollama's registry protocol: manifests, and blobs by range. One request at a time; no retries here.

Source of the protocol: Ollama's `server/download.go` and the OCI distribution specification. A registry may answer a
blob with a redirect to another host (registry.ollama.ai, hf.co) or with the bytes (Debian's docker-registry); both
work, with ranges or without. What a failure means is decided here; whether it is tried again, in `download.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from pointsman.api.sources.ollama import OllamaSource
from pointsman.models.auth import Authorizer, Credentials, denied, read_challenge, same_origin
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import MAX_MANIFEST_BYTES, MEDIA_TYPE, Descriptor
from pointsman.models.transport import failure

_MAX_HOPS = 8
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SMALL_BODY = 64 << 10


class RegistryFailure(PullError):
    """A failure that may pass by itself within seconds: no connection, 5xx, 429."""

    def __init__(self, reason: PullReason, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""


@dataclass(frozen=True, slots=True)
class BlobStream:
    """An answer that holds bytes of a blob."""

    start: int
    """Position in the blob of the first byte that comes; below the position asked for when ranges are ignored."""
    ranged: bool
    """False when the whole blob comes, whatever was asked for."""
    chunks: AsyncIterator[bytes]
    """Raises `RegistryFailure` when the connection breaks or goes silent."""


class Registry:
    """One model's place in one registry."""

    def __init__(self, client: httpx.AsyncClient, source: OllamaSource, credentials: Credentials) -> None:
        self._client = client
        self._source = source
        self._base = httpx.URL(source.base_url)
        self._credentials = credentials
        self._authorizer = Authorizer(self._base, source.repository, credentials)
        self._handshake = asyncio.Lock()

    async def manifest(self, reference: str) -> bytes:
        """The bytes of the manifest of a tag or digest. Raises `PullError`, UnknownModel among others."""
        async with self._get(f"manifests/{reference}", {"Accept": MEDIA_TYPE}) as response:
            if response.status_code in (400, 404, 405):
                raise PullError(
                    PullReason.UNKNOWN_MODEL,
                    f"{self._source.host} has no {self._source.repository}:{reference}; check the name and the tag.",
                )
            self._check_status(response)
            return await self._bounded_body(response)

    @asynccontextmanager
    async def blob(self, blob: Descriptor, start: int, end: int) -> AsyncIterator[BlobStream]:
        """Opens bytes `start` (included) to `end` (excluded) of a blob. Raises `PullError`."""
        whole = start == 0 and end == blob.size
        headers = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
        async with self._get(f"blobs/{blob.digest}", headers) as response:
            self._check_status(response)
            if response.status_code == 206:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if not found or int(found[1]) != start or found[3] not in ("*", str(blob.size)):
                    raise self._broken("answered another range than was asked for")
                first, ranged = start, True
            else:
                length = response.headers.get("content-length")
                if length is not None and length != str(blob.size):
                    raise self._broken("has a blob of another size than its manifest says")
                first, ranged = 0, whole
            yield BlobStream(first, ranged, self._chunks(response))

    @asynccontextmanager
    async def _get(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        url = httpx.URL(f"{self._base}/v2/{self._source.repository}/{path}")
        response = await self._follow(url, headers)
        try:
            yield response
        finally:
            await response.aclose()

    async def _follow(self, first: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        """Follows redirects and answers a 401, once."""
        url, challenged = first, False
        for _ in range(_MAX_HOPS):
            authorization = self._authorizer.header_for(url)
            request = self._client.build_request("GET", url, headers={**headers, **authorization})
            try:
                response = await self._client.send(request, stream=True)
                if response.is_redirect:
                    url = self._redirect(url, response)
                    await _finish(response)
                    continue
                if response.status_code == 401 and same_origin(url, self._base) and not challenged:
                    challenged = True
                    await _finish(response)
                    await self._answer(response, authorization)
                    url = first
                    continue
            except httpx.TransportError as error:
                raise self._transport_failure(error, url) from None
            return response
        raise self._broken("redirects in circles")

    def _redirect(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        try:
            target = url.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            raise self._broken("redirects to something that is no address") from None
        if target.scheme != "https" and not (target.scheme == "http" and self._source.plain_http):
            raise PullError(
                PullReason.REGISTRY_ERROR,
                f"{self._source.host} redirects from TLS to plain text, which is not followed.",
            )
        return target

    async def _answer(self, response: httpx.Response, shown: dict[str, str]) -> None:
        async with self._handshake:
            if self._authorizer.header_for(self._base) != shown:
                return  # another request of ours has renewed it meanwhile
            challenge = read_challenge(response.headers.get("www-authenticate", ""))
            if not await self._authorizer.answer(self._client, challenge):
                raise denied(self._credentials)

    def _check_status(self, response: httpx.Response) -> None:
        """Passes 200 and 206."""
        status = response.status_code
        if status in (200, 206):
            return
        own = same_origin(response.url, self._base)
        if status in (401, 403) and own:
            raise denied(self._credentials)
        # A refusal by a redirect target is an expired signature: the next try gets a fresh one from the registry.
        host = self._source.host if own else f"{response.url.host}, to which {self._source.host} redirects,"
        raise RegistryFailure(
            PullReason.REGISTRY_ERROR,
            f"{host} answered {status}; it is tried again, but look at the registry if this stays.",
            _retry_after(response),
        )

    async def _bounded_body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in self._chunks(response):
            body += chunk
            if len(body) > MAX_MANIFEST_BYTES:
                raise self._broken("answered a manifest of more than 4 MiB")
        return bytes(body)

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.TransportError as error:
            raise self._transport_failure(error, response.url) from None

    def _transport_failure(self, error: httpx.TransportError, url: httpx.URL) -> PullError:
        found = failure(error, url.netloc.decode())
        if found.reason is PullReason.REGISTRY_UNREACHABLE:
            return RegistryFailure(found.reason, found.message)
        return found

    def _broken(self, what: str) -> RegistryFailure:
        return RegistryFailure(PullReason.REGISTRY_ERROR, f"{self._source.host} {what}; look at the registry.")


async def _finish(response: httpx.Response) -> None:
    """Reads a small rest so that the connection can be used again, drops a large one."""
    if int(response.headers.get("content-length") or _SMALL_BODY + 1) <= _SMALL_BODY:
        await response.aread()
    await response.aclose()


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
