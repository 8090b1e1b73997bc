"""A model of a registry of Ollama's protocol into Ollama's store."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.api.sources.ollama import OllamaSource, served_name, served_path_parts
from pointsman.models.errand import Goal, Published
from pointsman.models.layouts.ollama import OllamaLayout
from pointsman.models.manifest import MEDIA_TYPE, Manifest, read_manifest
from pointsman.models.registry import Registry
from pointsman.models.resolve import tag_or_pin
from pointsman.models.retry import Clockwork, RetryPolicy, persist


class OllamaErrand:
    """`Errand` of `ollama://`."""

    def __init__(
        self,
        source: OllamaSource,
        pin: str | None,
        layout: OllamaLayout,
        registry: Registry,
        policy: RetryPolicy,
        clockwork: Clockwork,
        *,
        never_refresh: bool = False,
    ) -> None:
        self.pool = layout.pool
        self.bytes = registry
        self._source = source
        self._pin = pin
        self._layout = layout
        self._registry = registry
        self._policy = policy
        self._clockwork = clockwork
        self._never_refresh = never_refresh
        self._manifest: Manifest | None = None

    def prepare(self) -> None:
        self._layout.prepare()

    def find(self) -> Published | None:
        if self._pin:
            manifest = self._layout.find(served_path_parts(self._source, self._pin))
            manifest = manifest if manifest and manifest.digest == self._pin else None
        elif self._never_refresh:
            manifest = self._layout.find(self._source.path_parts)
        else:
            return None
        return self._published(manifest) if manifest else None

    async def resolve(self) -> Goal:
        manifest = await tag_or_pin(self._get, self._source.tag, self._pin, self._source.short_name)
        self._manifest = manifest
        return Goal(manifest.blobs, manifest.digest)

    async def _get(self, reference: str) -> Manifest:
        async def once() -> Manifest:
            return read_manifest(await self._registry.manifest(reference, MEDIA_TYPE))

        return await persist(once, self._policy, self._clockwork)

    async def arrange(self, digests: Mapping[str, str]) -> None:
        """Nothing: the blobs are what Ollama reads."""

    def publish(self, digests: Mapping[str, str], at: float) -> Published:
        assert self._manifest is not None
        self._layout.publish(self._source, self._manifest, at)
        return self._published(self._manifest)

    def _published(self, manifest: Manifest) -> Published:
        return Published(
            digest=manifest.digest,
            total_bytes=manifest.total_bytes,
            short_name=self._source.short_name,
            served_name=served_name(self._source, manifest.digest),
        )
