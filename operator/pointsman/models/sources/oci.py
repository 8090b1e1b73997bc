"""`oci://`: an artefact of a registry, its layers as files."""

from __future__ import annotations

import httpx
import msgspec

from pointsman.api.sources.oci import OciSource
from pointsman.models.artefact import MANIFEST_TYPES, Artefact, read_artefact
from pointsman.models.auth import Credentials
from pointsman.models.origin import Resolved
from pointsman.models.registry import Registry
from pointsman.models.resolve import tag_or_pin


class OciOrigin(Registry):
    """`FolderOrigin` of a registry."""

    def __init__(self, client: httpx.AsyncClient, source: OciSource, pin: str | None, credentials: Credentials) -> None:
        super().__init__(client, source.base_url, source.repository, credentials, plain_http=source.plain_http)
        self._source = source
        self._pin = pin

    async def resolve(self) -> Resolved:
        """The artefact's files; the digest is its manifest's. Raises `PullError`."""
        artefact = await tag_or_pin(self._artefact, self._source.tag, self._pin, str(self._source))
        return Resolved(artefact.files, digest=artefact.digest)

    async def _artefact(self, reference: str) -> Artefact:
        found = read_artefact(await self.manifest(reference, ", ".join(MANIFEST_TYPES)))
        if not found.only:
            return found
        inner = read_artefact(await self.manifest(found.only, ", ".join(MANIFEST_TYPES)))
        return msgspec.structs.replace(inner, digest=found.digest)
