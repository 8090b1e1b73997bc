"""From a tag, and perhaps a pin, to the manifest to pull.

A pinned digest is compared with what the tag names now; if the tag has moved on (or is gone), the registry is asked
for the digest itself, which not every registry allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from pointsman.models.errors import PullError, PullReason


class Digested(Protocol):
    """A manifest that was read."""

    @property
    def digest(self) -> str:
        """`sha256:…` of its bytes."""
        ...


T = TypeVar("T", bound=Digested)


async def tag_or_pin(get: Callable[[str], Awaitable[T]], tag: str, pin: str | None, name: str) -> T:
    """`get` gets the manifest of a tag or digest; `name` is for messages.

    Raises `PullError`; DigestMismatch when the pinned manifest cannot be had.
    """
    unknown: PullError | None = None
    now = ""
    try:
        manifest = await get(tag)
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
        f"{name} is now {now}, and the registry does not give out the pinned {pin}; change the pin.",
    )
