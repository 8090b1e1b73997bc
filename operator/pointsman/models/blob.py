"""What a pull brings into a store, byte by byte: blobs. Values only.

A blob's bytes must never change under a pull. Where the source says their sha256, that is what they are known by; where
it does not, an *identity* stands for them (commit and object, ETag and size) until they are here and were hashed.
"""

from __future__ import annotations

import hashlib

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """Bytes to bring."""

    size: int
    """Bytes."""
    digest: str = ""
    """`sha256:…`; empty where the source does not say."""
    identity: str = ""
    """Without a digest: a text that is another one whenever the bytes are others."""
    where: str = ""
    """What the blob's origin needs to find it: a path, a key. Shown in messages; never a secret."""
    git_oid: str = ""
    """The sha1 that git knows the bytes by, where there is one: they are checked against it."""
    pinned: bool = False
    """The digest is the user's, not the source's: other bytes are no damage, but another model."""

    @property
    def file_name(self) -> str:
        """The blob's name in staging, and with a digest its name in a store."""
        if self.digest:
            return self.digest.replace(":", "-")
        return "id-" + hashlib.sha256(f"{self.identity}\n{self.size}".encode()).hexdigest()

    @property
    def known_as(self) -> str:
        """What binds a journal to these bytes; without spaces."""
        return self.digest or self.file_name


class File(msgspec.Struct, frozen=True):
    """A blob at a path of a model's folder."""

    path: str
    """Relative, with `/`; checked: no `..`, no empty part."""
    blob: Blob
    unpack: bool = False
    """The blob is an archive whose files are wanted; `path` is the folder they go to, empty for the model's own."""


class Listed(msgspec.Struct, frozen=True):
    """A file whose bytes are here."""

    path: str
    size: int
    digest: str


def digest_of(raw: bytes) -> str:
    """`sha256:…` of these bytes."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def folder_digest(files: tuple[Listed, ...]) -> str:
    """The digest of a folder: the sha256 over its canonical listing.

    That is one line for each file, sorted by the bytes of the path: the file's sha256 in 64 hexadecimal digits, a
    space, its size in bytes, a space, its path, a newline; UTF-8.
    """
    lines = sorted((file.path.encode(), f"{file.digest.removeprefix('sha256:')} {file.size} ") for file in files)
    return digest_of(b"".join(head.encode() + path + b"\n" for path, head in lines))
