"""Where a model in an S3 bucket comes from. Pure.

    s3://bucket/path/to/model.gguf    one file: a key that ends in .gguf
    s3://bucket/path/to/model         a folder: all keys below the prefix path/to/model/

Which S3, in which region and with which credentials is not the source's matter: the model's `secretRef` says so
(`AWS_ENDPOINT_URL`, `AWS_REGION`, …), or the identity of the pod.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError

SCHEME = "s3://"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEY = re.compile(r"[A-Za-z0-9_.+=,@-]+(/[A-Za-z0-9_.+=,@-]+)*")


@dataclass(frozen=True, slots=True)
class S3Source:
    """A key of a bucket, or all keys below a prefix."""

    bucket: str
    key: str
    """Without a slash at its end."""

    @property
    def file(self) -> str:
        """What the file is called in the store; empty for a folder."""
        return self.key.rpartition("/")[2] if self.key.endswith(".gguf") else ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def parse_s3(source: str) -> S3Source:
    """Raises `SourceError`."""
    bucket, _, key = source.removeprefix(SCHEME).partition("/")
    key = key.removesuffix("/")
    if not _BUCKET.fullmatch(bucket):
        raise SourceError(f"{bucket!r} in {source!r} is not a name of a bucket")
    if not _KEY.fullmatch(key) or any(p in (".", "..") for p in key.split("/")):
        raise SourceError(f"{source!r} is not s3://bucket/path/to/folder or s3://bucket/path/to/model.gguf")
    return S3Source(bucket, key)
