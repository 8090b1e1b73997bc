"""A client of the registry protocol, Ollama's and OCI's: manifests, and blobs by range. No retries here.

Source of the protocol: Ollama's `server/download.go` and the OCI distribution specification. A registry may answer a
blob with a redirect to another host (registry.ollama.ai, hf.co) or with the bytes (Debian's docker-registry); both
work, with ranges or without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from pointsman.models.auth import Authorizer, Credentials, denied
from pointsman.models.blob import Blob
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import MAX_MANIFEST_BYTES
from pointsman.models.origin import BlobStream
from pointsman.models.requests import Requests


class Registry:
    """One repository of one registry."""

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, repository: str, credentials: Credentials, *, plain_http: bool
    ) -> None:
        base = httpx.URL(base_url)
        self._repository = repository
        self._requests = Requests(
            client,
            base,
            Authorizer(base, repository, credentials),
            lambda _: denied(credentials),
            plain_http=plain_http,
        )

    @property
    def host(self) -> str:
        """With the port if one was given."""
        return self._requests.host

    async def manifest(self, reference: str, media_types: str) -> bytes:
        """The bytes of the manifest of a tag or digest; `media_types` is what may come (an `Accept` header).

        Raises `PullError`, UnknownModel among others.
        """
        async with self._requests.get(self._url(f"manifests/{reference}"), {"Accept": media_types}) as response:
            if response.status_code in (400, 404, 405):
                raise PullError(
                    PullReason.UNKNOWN_MODEL,
                    f"{self.host} has no {self._repository}:{reference}; check the name and the tag.",
                )
            self._requests.check_status(response)
            return await self._requests.body(response, MAX_MANIFEST_BYTES)

    @asynccontextmanager
    async def open(self, blob: Blob, start: int, end: int) -> AsyncIterator[BlobStream]:
        """Opens bytes `start` (included) to `end` (excluded) of a blob. Raises `PullError`."""
        async with self._requests.open_range(self._url(f"blobs/{blob.digest}"), blob.size, start, end) as stream:
            yield stream

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self._requests.base}/v2/{self._repository}/{path}")
