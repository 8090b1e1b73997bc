"""`pvc://`: a model that is in a volume already. Looked at and hashed, never written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pointsman.api.sources.pvc import PvcSource
from pointsman.models.blob import Listed, folder_digest
from pointsman.models.errand import Published
from pointsman.models.errors import PullError, PullReason
from pointsman.models.model_check import check_place
from pointsman.models.partial import hash_file
from pointsman.models.progress import Meter
from pointsman.models.threads import in_thread
from pointsman.models.volume import status_of

_HASH_STEP = 32 << 20


async def look_at_claim(source: PvcSource, pin: str | None, claims: Path, meter: Meter) -> Published:
    """What lies in a claim that is mounted below `claims`. All of it is read once: that it can be read is known then.

    Raises `PullError`: UnknownModel, NotAModel, DigestMismatch; `OSError`.
    """
    place = claims / source.claim / source.path
    if status_of(place) is None:
        raise PullError(
            PullReason.UNKNOWN_MODEL, f"The claim {source.claim} has no {source.path}; check the path and the claim."
        )
    meter.total_bytes = await in_thread(check_place, place, str(source))
    paths = [place] if not place.is_dir() else sorted(path for path in place.rglob("*") if path.is_file())
    files = [
        Listed(path.relative_to(place).as_posix(), path.stat().st_size, await _hash(path, meter)) for path in paths
    ]
    digest = folder_digest(tuple(files)) if place.is_dir() else files[0].digest
    if pin and digest != pin:
        raise PullError(
            PullReason.DIGEST_MISMATCH, f"{source} is {digest}, not the pinned {pin}; change the pin or the files."
        )
    return Published(digest=digest, total_bytes=meter.total_bytes, path=str(place))


async def _hash(path: Path, meter: Meter) -> str:
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, size, _HASH_STEP):
            end = min(size, start + _HASH_STEP)
            await in_thread(hash_file, file.fileno(), digest, start, end)
            meter.found(end - start)
    return "sha256:" + digest.hexdigest()
