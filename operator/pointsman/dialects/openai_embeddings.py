"""OpenAI's embeddings: what a request asks for, and what an answer is worth. Pure.

Decided here: an answer is good when each of its embeddings holds something, as numbers or as base64; without any it is
empty. Embeddings are never streamed. Source: https://platform.openai.com/docs/api-reference/embeddings.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.openai import parse_plain
from pointsman.dialects.openai_answer import BROKEN_JSON, ERROR_INSIDE, NOTHING
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import UNREADABLE, Said, said_in
from pointsman.domain.verdict import EMPTY, SUCCESS, Judgement, Verdict, Why

EMBEDDINGS_PATH = "/embeddings"

_ABSENT = msgspec.Raw()
_OTHER_JSON = Judgement(Verdict.FAILURE, Why.BROKEN_JSON, "its answer is no list of embeddings", by_answer=True)


class _Embedding(msgspec.Struct, gc=False):
    embedding: msgspec.Raw = _ABSENT


class _Answer(msgspec.Struct, gc=False):
    """The numbers stay raw: thousands of them are checked for their form, not made into objects."""

    data: list[_Embedding] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode = msgspec.json.Decoder(_Answer).decode
_decode_usage = msgspec.json.Decoder(Usage | None).decode


def parse_embedding(body: bytes) -> ChatRequest | Complaint:
    """Reads the routed fields of a request body. `stream` means nothing here; some backends have a `task_type` of their
    own."""
    request = parse_plain(body, tasked=False)
    if isinstance(request, ChatRequest):
        request.stream = False
    return request


def judge_embeddings(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """A whole JSON answer under 2xx: its verdict, its usage, and what it said if it is an error after all."""
    try:
        answer = _decode(body)
    except msgspec.ValidationError:
        return _OTHER_JSON, None, None
    except UNREADABLE:
        return BROKEN_JSON, None, None
    if answer.error is not _ABSENT and bytes(answer.error) not in NOTHING:
        return ERROR_INSIDE, None, said_in(body)
    rows = answer.data
    if not rows or any(bytes(row.embedding) in NOTHING for row in rows):
        return EMPTY, None, None
    try:
        usage: Usage | None = _decode_usage(answer.usage) if answer.usage is not _ABSENT else None
    except UNREADABLE:
        usage = None
    return SUCCESS, usage, None
