"""What routing may ask of a request of OpenAI's API, read from its bytes when it is asked, and once. Pure.

Decided here: where a feature stands in a body, how prompt tokens are estimated, what of a prompt is its beginning, and
the names of tasks. Not here: what is decided by a feature (`domain/`). Source of the fields:
https://platform.openai.com/docs/api-reference; `task_type` is our own and never reaches a backend (`openai.py`).

The estimate: a token for every four bytes of text, as English has it; code, and languages that are not written in
Latin letters, have more tokens, long words fewer. An image within the body counts as a thousand tokens, for its bytes
are no text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from pointsman.api.route import Needed, TaskType
from pointsman.dialects.feature_shapes import Fields, Message
from pointsman.domain.features import NOTHING, draw_of, seed_of
from pointsman.domain.judging import UNREADABLE

TASK_HEADER = b"x-pointsman-task-type"
TASK_NAMES = {re.sub(r"(?<!^)([A-Z])", r"_\1", t.value).lower(): t for t in TaskType}
"""`code_generation` → the task."""
UNKNOWN_TASK = f"task_type must be one of {', '.join(TASK_NAMES)}"
BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1000
PREFIX_BYTES = 4096
"""So much of a prompt is its beginning, at most; in a chat it ends with the user's first message."""
_DATA_URL = re.compile(rb'"data:[^"]*"')
_IMAGE = re.compile(rb'"(?:image_url|input_image)"')
_NO = (b"", b"null", b"[]", b"{}")


class Carried(Protocol):
    """A request that was parsed."""

    @property
    def body(self) -> bytes: ...

    @property
    def stream(self) -> bool: ...

    @property
    def task(self) -> TaskType | None: ...


_fields_decoder: Final = msgspec.json.Decoder(Fields)
_messages_decoder: Final = msgspec.json.Decoder(list[Message])


class RequestFeatures:
    """Implements `domain.features.Features`. The body must still be there when it is asked."""

    __slots__ = (
        "_fields", "_headers", "_id", "_needed", "_needs", "_prefix", "_request", "_seed", "_tokens", "stream", "task",
    )  # fmt: skip

    def __init__(
        self,
        request: Carried,
        headers: Mapping[bytes, bytes],
        request_id: bytes,
        needs: frozenset[Needed] = NOTHING,
    ) -> None:
        """`needs` is what the operation needs of a model whatever the request says."""
        self._request = request
        self._headers = headers
        self._id = request_id
        self._needed = needs
        self.stream = request.stream
        self.task = request.task
        self._fields: Fields | None = None
        self._seed: int | None = None
        self._needs: frozenset[Needed] | None = None
        self._tokens = 0
        self._prefix: int | None = None

    @property
    def seed(self) -> int:
        if self._seed is None:
            self._seed = draw_of(self._id)
        return self._seed

    @property
    def needs(self) -> frozenset[Needed]:
        if self._needs is None:
            self._needs = self._find_needs()
        return self._needs

    def _find_needs(self) -> frozenset[Needed]:
        fields = self._read()
        found = set(self._needed)
        if bytes(fields.tools) not in _NO or bytes(fields.functions) not in _NO:
            found.add(Needed.TOOLS)
        # Within a JSON string the quotes would be escaped: what is found is a token of its own.
        if _IMAGE.search(fields.messages) or _IMAGE.search(fields.input):
            found.add(Needed.VISION)
        return frozenset(found) if found else NOTHING

    @property
    def prompt_tokens(self) -> int:
        if not self._tokens:
            self._tokens = max(1, self._estimate())
        return self._tokens

    def _estimate(self) -> int:
        f = self._read()
        size = images = 0
        for raw in (f.messages, f.prompt, f.input, f.instructions, f.tools, f.functions):
            text = memoryview(raw)
            size += len(text)
            for url in _DATA_URL.finditer(text):
                size -= url.end() - url.start()
                images += 1
        return size // BYTES_PER_TOKEN + images * IMAGE_TOKENS

    @property
    def prefix(self) -> int:
        if self._prefix is None:
            self._prefix = seed_of(self._beginning())
        return self._prefix

    def _beginning(self) -> bytes:
        fields = self._read()
        if not memoryview(fields.messages):
            return (bytes(fields.instructions) + bytes(fields.prompt) + bytes(fields.input))[:PREFIX_BYTES]
        try:
            messages = _messages_decoder.decode(fields.messages)
        except UNREADABLE:
            return bytes(fields.messages)[:PREFIX_BYTES]
        parts: list[bytes] = []
        for message in messages:
            parts += (message.role.encode(), b":", bytes(message.content), b"\n")
            if message.role == "user":
                break
        return b"".join(parts)[:PREFIX_BYTES]

    def header(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def key(self, header: bytes | None) -> str | None:
        if header is not None and (value := self.header(header)):
            return value
        fields = self._read()
        for raw in (fields.user, fields.safety_identifier):
            try:
                name = msgspec.json.decode(raw) if memoryview(raw) else None
            except UNREADABLE:
                name = bytes(raw).decode("latin-1")
            if name and isinstance(name, str):
                return name
        return None

    def _read(self) -> Fields:
        if self._fields is None:
            try:
                self._fields = _fields_decoder.decode(self._request.body)
            except UNREADABLE:
                self._fields = Fields()  # the parser of the operation has found no fault with it
        return self._fields
