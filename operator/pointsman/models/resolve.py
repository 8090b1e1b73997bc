"""From a tag, and perhaps a pin, to the manifest to pull.

A pinned digest is compared with what the tag names now; if the tag has moved on (or is gone), the registry is asked
for the digest itself, which not every registry allows.
"""

from __future__ import annotations

from pointsman.api.sources.ollama import OllamaSource
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import MEDIA_TYPE, Manifest, read_manifest
from pointsman.models.registry import Registry
from pointsman.models.retry import Clockwork, RetryPolicy, persist


async def resolve(
    registry: Registry, source: OllamaSource, pin: str | None, policy: RetryPolicy, clockwork: Clockwork
) -> Manifest:
    """Raises `PullError`; DigestMismatch when the pinned manifest cannot be had."""

    async def get(reference: str) -> Manifest:
        async def once() -> Manifest:
            return read_manifest(await registry.manifest(reference, MEDIA_TYPE))

        return await persist(once, policy, clockwork)

    unknown: PullError | None = None
    now = ""
    try:
        manifest = await get(source.tag)
        if pin is None or manifest.digest == pin:
            return manifest
        now = manifest.digest
    except PullError as error:
        if pin is None or error.reason is not PullReason.UNKNOWN_MODEL:
            raise
        unknown = error
    try:
        manifest = await get(pin)
        if manifest.digest == pin:
            return manifest
    except PullError as error:
        if error.reason is not PullReason.UNKNOWN_MODEL:
            raise
    if unknown:
        raise unknown
    raise PullError(
        PullReason.DIGEST_MISMATCH,
        f"{source.short_name} is now {now}, and {source.host} does not give out the pinned {pin}; change the pin.",
    )
