"""OpenAI's older text completions: what a request asks for, and what is in an answer. Pure.

Decided here: where a text completion differs from a chat: its prompt is no list of messages, and its choices carry
`text`. Everything else (the model's name and `stream_options` spliced, ends, usage, errors) is the chat's.
Source: https://platform.openai.com/docs/api-reference/completions.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.openai import parse_plain
from pointsman.dialects.openai_answer import ChatStream, judge_choices
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import Said
from pointsman.domain.verdict import Judgement

COMPLETIONS_PATH = "/completions"

_ABSENT = msgspec.Raw()


class _Text(msgspec.Struct, gc=False):
    """A choice."""

    index: int = 0
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: msgspec.Raw = _ABSENT


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Text] | None = None
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    error: msgspec.Raw = _ABSENT


class _OddAnswer(msgspec.Struct, gc=False):
    choices: list[_Text] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode_usual = msgspec.json.Decoder(_Answer).decode
_decode_odd = msgspec.json.Decoder(_OddAnswer).decode


def _decode(data: bytes) -> _Answer:
    """Raises `msgspec.DecodeError`. A usage that is not as it should be is no reason to refuse an answer."""
    try:
        return _decode_usual(data)
    except msgspec.ValidationError:
        odd = _decode_odd(data)
        return _Answer(odd.choices, None if odd.usage is not _ABSENT else msgspec.UNSET, odd.error)


def parse_completion(body: bytes) -> ChatRequest | Complaint:
    """Reads the routed fields of a request body."""
    return parse_plain(body)


def _speaks(choice: _Text) -> bool:
    return bool(choice.text)


def open_text_stream(request: ChatRequest) -> ChatStream:
    """Who reads the events of one stream."""
    return ChatStream(request.has_stop, _decode, _speaks)


def judge_completion(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """A whole JSON answer under 2xx: its verdict, its usage, and what it said if it is an error after all."""
    return judge_choices(body, request.has_stop, _decode, _speaks)
