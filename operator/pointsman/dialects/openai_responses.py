"""OpenAI's responses, the request: which fields route it, whether it may act, and what it continues. Pure.

Decided here: which requests may have done something once a backend has begun with them (failover.md rule 5), and which
bind a request to the backend that keeps what it continues. Not here: what an answer is worth
(`openai_responses_answer.py`). Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.openai import NO_MODEL, splice_model, unreadable, walk, with_task
from pointsman.dialects.request import Care, ChatRequest, Complaint
from pointsman.domain.judging import UNREADABLE

RESPONSES_PATH = "/responses"

_ABSENT = msgspec.Raw()
_HARMLESS_TOOLS = frozenset(("function", "custom"))
"""Tools that the client runs itself: to call one is to say so."""


class _Head(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    store: msgspec.Raw = _ABSENT
    background: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _ABSENT
    task_type: msgspec.Raw = _ABSENT


class _Tool(msgspec.Struct, gc=False):
    type: str


class _Named(msgspec.Struct, gc=False):
    id: str = ""


_head_decoder = msgspec.json.Decoder(_Head)
_tools_decoder = msgspec.json.Decoder(list[_Tool] | None)
_conversation_decoder = msgspec.json.Decoder(str | _Named | None)


def parse_response_request(body: bytes) -> ChatRequest | Complaint:
    """Reads the routed fields of a request body."""
    try:
        head = _head_decoder.decode(body)
    except UNREADABLE as e:
        return unreadable(e)
    if not head.model:
        return NO_MODEL
    if head.task_type is not _ABSENT:
        return with_task(body, head.task_type, parse_response_request)
    spans = walk(body)
    if isinstance(spans, Complaint):
        return spans
    stores = bytes(head.store) != b"false"
    acts = stores or bytes(head.background) not in (b"", b"null", b"false") or not _harmless(head.tools)
    conversation = _conversation(head.conversation)
    previous = head.previous_response_id or ""
    care = None
    if acts or previous or conversation:
        care = Care(acts or bool(conversation), stores, previous, conversation)
    return ChatRequest(body, head.model, head.stream is True, True, False, spans[0], None, care=care)


def compose_response_request(request: ChatRequest, model: str, ask_usage: bool = False) -> bytes:
    """The body for a backend that calls the model `model`. Usage is in every answer: nothing is asked for."""
    return splice_model(request, model)


def _harmless(tools: msgspec.Raw) -> bool:
    """Does the client run each of the tools? What cannot be read is taken for one that acts."""
    if tools is _ABSENT:
        return True
    try:
        return all(tool.type in _HARMLESS_TOOLS for tool in _tools_decoder.decode(tools) or ())
    except UNREADABLE:
        return False


def _conversation(raw: msgspec.Raw) -> str:
    if raw is _ABSENT:
        return ""
    try:
        value = _conversation_decoder.decode(raw)
    except UNREADABLE:
        return ""
    if isinstance(value, _Named):
        return value.id
    return value or ""
