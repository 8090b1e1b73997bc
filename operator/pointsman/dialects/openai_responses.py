"""OpenAI's responses, the request: which fields route it, whether it may act, and what it continues. Pure.

Decided here: which requests may have done something once a backend has begun with them (failover.md rule 5), and which
bind a request to the backend that keeps what it continues. Not here: what an answer is worth
(`openai_responses_answer.py`). Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.openai import invalid, splice_model, walk
from pointsman.dialects.request import ChatRequest, Complaint

RESPONSES_PATH = "/responses"

_ABSENT = msgspec.Raw()
_HARMLESS_TOOLS = frozenset(("function", "custom"))
"""Tools that the client runs itself: to call one is to say so."""


class ResponsesRequest(ChatRequest, gc=False):
    """What routing and relaying need of a request for a response."""

    acts: bool = True
    """A backend that began with it may have kept something, or run a tool: it may not be asked of another."""
    previous: str = ""
    """`previous_response_id`; empty when it continues none."""
    conversation: str = ""
    """The id of the conversation that it belongs to; empty without."""


class _Head(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    store: msgspec.Raw = _ABSENT
    background: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _ABSENT


class _Tool(msgspec.Struct, gc=False):
    type: str


class _Named(msgspec.Struct, gc=False):
    id: str = ""


_head_decoder = msgspec.json.Decoder(_Head)
_tools_decoder = msgspec.json.Decoder(list[_Tool] | None)
_conversation_decoder = msgspec.json.Decoder(str | _Named | None)


def parse_response_request(body: bytes) -> ResponsesRequest | Complaint:
    """Reads the routed fields of a request body."""
    try:
        head = _head_decoder.decode(body)
    except msgspec.ValidationError as e:
        return invalid(str(e))
    except (msgspec.DecodeError, RecursionError) as e:
        return Complaint(400, f"the body is not JSON: {e}", "invalid_json")
    if not head.model:
        return Complaint(400, "the field model is empty", None, "model")
    spans = walk(body)
    if isinstance(spans, Complaint):
        return spans
    acts = (
        bytes(head.store) != b"false"
        or bytes(head.background) not in (b"", b"null", b"false")
        or not _harmless(head.tools)
    )
    conversation = _conversation(head.conversation)
    return ResponsesRequest(
        body, head.model, head.stream is True, True, False, spans[0], None, None, acts or bool(conversation),
        head.previous_response_id or "", conversation,
    )  # fmt: skip


def compose_response_request(request: ChatRequest, model: str, ask_usage: bool = False) -> bytes:
    """The body for a backend that calls the model `model`. Usage is in every answer: nothing is asked for."""
    return splice_model(request, model)


def _harmless(tools: msgspec.Raw) -> bool:
    """Does the client run each of the tools? What cannot be read is taken for one that acts."""
    if tools is _ABSENT:
        return True
    try:
        return all(tool.type in _HARMLESS_TOOLS for tool in _tools_decoder.decode(tools) or ())
    except msgspec.DecodeError:
        return False


def _conversation(raw: msgspec.Raw) -> str:
    if raw is _ABSENT:
        return ""
    try:
        value = _conversation_decoder.decode(raw)
    except msgspec.DecodeError:
        return ""
    if isinstance(value, _Named):
        return value.id
    return value or ""
