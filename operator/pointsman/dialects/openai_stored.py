"""What OpenAI's API keeps and gives by its id: stored chats, responses, models. Which addresses name them. Pure.

Decided here: the addresses, what each takes, and how it is asked of a backend. Not here: who may have it
(`domain/stored.py`), how it is looked for (`gateway/relay/lookup.py`).
Source: https://platform.openai.com/docs/api-reference/chat/list, .../responses/get, .../models/delete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from pointsman.domain.judging import UNREADABLE

CHATS = "/chat/completions"
RESPONSES = "/responses"

_ID = re.compile(r"(?!\.+$)[A-Za-z0-9._~:-]{1,256}")
_QUERY = re.compile(rb"[\x21\x22\x24-\x7e]{0,4096}")
_METHODS: dict[str, tuple[str, ...]] = {
    CHATS + "/": ("GET", "POST", "DELETE"),
    CHATS + "//messages": ("GET",),
    RESPONSES + "/": ("GET", "DELETE"),
    RESPONSES + "//cancel": ("POST",),
    RESPONSES + "//input_items": ("GET",),
}
"""Addresses without their id → what may be done there."""
_NAMES = {CHATS: "chat completion", RESPONSES: "response"}


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One thing that is asked of what a backend keeps."""

    what: str
    """For people: `response`."""
    id: str
    method: str
    path: str
    """Of the backend's API, without its version."""


@dataclass(frozen=True, slots=True)
class WrongMethod:
    """There is such an address, and this is what it takes."""

    allowed: tuple[str, ...]


def stored_call(method: str, path: str) -> StoredCall | WrongMethod | None:
    """`path` without `/v1`; None when it names nothing that is kept."""
    for collection, what in _NAMES.items():
        if not path.startswith(collection + "/"):
            continue
        kept_id, slash, part = path[len(collection) + 1 :].partition("/")
        methods = _METHODS.get(f"{collection}/{slash}{part}")
        if methods is None or _ID.fullmatch(kept_id) is None:
            return None
        return StoredCall(what, kept_id, method, path) if method in methods else WrongMethod(methods)
    return None


def well_formed(query: bytes) -> bool:
    """May it go on as it came?"""
    return _QUERY.fullmatch(query) is not None


def listed_model(query: bytes) -> str | None:
    """The model whose chats are to be listed."""
    return dict(parse_qsl(query.decode("ascii"))).get("model")


def after(query: bytes) -> str | None:
    """The id behind which a list is to go on."""
    return dict(parse_qsl(query.decode("ascii"))).get("after")


def with_model(query: bytes, model: str) -> bytes:
    """The same query with the name by which the backend knows the model."""
    fields = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    return urlencode([(k, model if k == "model" else v) for k, v in fields]).encode()


def model_path(model: str) -> str:
    """Of one model of a backend."""
    return f"/models/{quote(model, safe=':@')}"


class _Row(msgspec.Struct, gc=False):
    id: str = ""


class _Page(msgspec.Struct, gc=False):
    data: list[_Row] = []


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def listed_ids(body: bytes) -> list[str]:
    """The ids on a page of a list; none when it is no such page."""
    try:
        return [row.id for row in _decode_page(body).data if row.id]
    except UNREADABLE:
        return []


def is_json(body: bytes) -> bool:
    try:
        _decode_any(body)
    except UNREADABLE:
        return False
    return True
