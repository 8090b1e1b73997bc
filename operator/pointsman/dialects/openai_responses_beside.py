"""What else is asked about responses: a conversation made shorter, and its tokens counted. Pure.

Decided here: what their answers are worth. They begin like a response and keep nothing: any backend may be asked, as
often as need be, unless the request continues what one of them keeps. Neither is streamed.
Source: https://platform.openai.com/docs/api-reference/responses/compact, .../responses/input-tokens.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.openai_answer import BROKEN_JSON, ERROR_INSIDE, NOTHING
from pointsman.dialects.openai_responses import parse_response_request
from pointsman.dialects.openai_responses_answer import counted, failed_said
from pointsman.dialects.request import Care, ChatRequest, Complaint
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import UNREADABLE, Said
from pointsman.domain.verdict import EMPTY, SUCCESS, Judgement, Verdict, Why

COMPACT_PATH = "/responses/compact"
INPUT_TOKENS_PATH = "/responses/input_tokens"

_ABSENT = msgspec.Raw()
_OTHER_JSON = Judgement(Verdict.FAILURE, Why.BROKEN_JSON, "its answer is not what was asked for", by_answer=True)


class _Compacted(msgspec.Struct, gc=False):
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


class _Count(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    error: msgspec.Raw = _ABSENT


_decode_compacted = msgspec.json.Decoder(_Compacted).decode
_decode_count = msgspec.json.Decoder(_Count).decode


def parse_beside(body: bytes) -> ChatRequest | Complaint:
    """Reads the routed fields of a request body."""
    request = parse_response_request(body)
    if isinstance(request, ChatRequest):
        request.stream = False
        care = request.care
        if care is not None:
            continues = bool(care.previous or care.conversation)
            request.care = Care(False, False, care.previous, care.conversation) if continues else None
    return request


def judge_compacted(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """A whole JSON answer under 2xx: its verdict, its usage, and what it said if it is an error after all."""
    try:
        answer = _decode_compacted(body)
    except msgspec.ValidationError:
        return _OTHER_JSON, None, None
    except UNREADABLE:
        return BROKEN_JSON, None, None
    if bytes(answer.error) not in NOTHING:
        return ERROR_INSIDE, None, failed_said(body)
    if not answer.output:
        return EMPTY, None, None
    return SUCCESS, counted(answer.usage), None


def judge_count(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """The same of a count, which costs nothing: it has no usage."""
    try:
        answer = _decode_count(body)
    except msgspec.ValidationError:
        return _OTHER_JSON, None, None
    except UNREADABLE:
        return BROKEN_JSON, None, None
    if bytes(answer.error) not in NOTHING:
        return ERROR_INSIDE, None, failed_said(body)
    return (EMPTY if answer.input_tokens is None else SUCCESS), None, None
