"""`https://`: one file of a web server.

What keeps the bytes of two requests from being of two files: ETag or Last-Modified, sent as `If-Range` and compared in
every answer. A server that gives neither is trusted within one run only: the next one begins anew, unless a pin says
what the bytes must be.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from pointsman.api.sources.https import HttpsSource
from pointsman.models.auth import Credentials, Fixed
from pointsman.models.blob import Blob, File
from pointsman.models.errors import PullError, PullReason
from pointsman.models.origin import BlobStream, Resolved
from pointsman.models.requests import Requests

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


class HttpsOrigin:
    """`FolderOrigin` of a web server."""

    def __init__(
        self, client: httpx.AsyncClient, source: HttpsSource, credentials: Credentials, *, pinned: bool
    ) -> None:
        """Raises `PullError` (BadReference) for plain text without a pin."""
        if source.plain and not pinned:
            raise PullError(
                PullReason.BAD_REFERENCE,
                "A file that comes in plain text needs a pin: give its sha256 as `digest`, or use https:// .",
            )
        self._url = httpx.URL(source.url)
        self._file = source.file
        self._anonymous = credentials.anonymous
        value = f"Bearer {credentials.token}" if credentials.token else credentials.basic
        self._requests = Requests(
            client, self._url, Fixed(self._url, value), lambda _: self._denied(), plain_http=source.plain
        )
        self._validators: dict[str, str] = {}

    async def resolve(self) -> Resolved:
        """The size, and what tells this file from its next version. Raises `PullError`."""
        async with self._requests.get(self._url, {"Range": "bytes=0-0"}) as response:
            if response.status_code in (404, 410):
                raise PullError(PullReason.UNKNOWN_MODEL, f"{self._requests.host} has no {self._url.path}.")
            if response.status_code == 416:
                raise PullError(PullReason.NOT_A_MODEL, f"{self._file} is empty.")
            self._requests.check_status(response)
            if response.headers.get("content-type", "").startswith("text/html"):
                raise PullError(
                    PullReason.NOT_A_MODEL,
                    f"{self._requests.host} answers with a page, not with a file; look at the address in a browser.",
                )
            size = self._size(response)
            self._validators = _validators(response)
        version = " ".join(self._validators.values()) or secrets.token_hex(16)
        blob = Blob(size=size, identity=f"{self._url} {version}", where=self._file)
        return Resolved((File(self._file, blob),), single=True)

    @asynccontextmanager
    async def open(self, blob: Blob, start: int, end: int) -> AsyncIterator[BlobStream]:
        """By range, redirects followed. Raises `PullError`."""
        strong = [value for value in self._validators.values() if not value.startswith("W/")]
        headers = {"If-Range": strong[0]} if strong and (start, end) != (0, blob.size) else {}
        async with self._requests.open_range(self._url, blob.size, start, end, headers, self._check) as stream:
            yield stream

    def _check(self, response: httpx.Response) -> None:
        if _validators(response) != self._validators:
            raise PullError(
                PullReason.REGISTRY_ERROR, f"{self._file} was changed while it was pulled; the next try begins anew."
            )

    def _size(self, response: httpx.Response) -> int:
        found = _TOTAL.fullmatch(response.headers.get("content-range", ""))
        length = found[1] if found else response.headers.get("content-length", "")
        if response.headers.get("content-encoding", "identity") != "identity" or not length.isdigit():
            raise PullError(
                PullReason.NOT_A_MODEL, f"{self._requests.host} does not say how large {self._file} is; take another."
            )
        return int(length)

    def _denied(self) -> PullError:
        what = "the credentials given do not open it" if not self._anonymous else "it needs credentials by secretRef"
        return PullError(PullReason.ACCESS_DENIED, f"{self._requests.host} refuses access to {self._file}: {what}.")


def _validators(response: httpx.Response) -> dict[str, str]:
    return {key: response.headers[key] for key in ("etag", "last-modified") if response.headers.get(key)}
