"""What is in an answer of OpenAI's chat completions: content, ends, usage, errors. Pure.

Decided here: what counts as content, when a stream is complete and when an answer is empty (failover.md §1). Not here:
how bytes become frames (`sse.py`), and what follows from the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from pointsman.dialects.openai import error_event
from pointsman.dialects.openai_shapes import ABSENT, Answer, Choice, OddAnswer, Part
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.sse import Frame
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import UNREADABLE, Said, said_in
from pointsman.domain.verdict import EMPTY, INCOMPLETE, SUCCESS, Judgement, Verdict, Why

BROKEN_JSON: Final = Judgement(Verdict.FAILURE, Why.BROKEN_JSON, "its JSON is broken or cut short")
_OTHER_JSON: Final = Judgement(Verdict.FAILURE, Why.BROKEN_JSON, "its answer is no chat completion", by_answer=True)
ERROR_INSIDE: Final = Judgement(Verdict.FAILURE, Why.ERROR_EVENT, "an error under status 200", by_answer=True)
NOTHING: Final = frozenset((b"", b"null", b'""', b"[]", b"{}", b"false"))
"""Values that say nothing."""
_LONGEST_NOTHING: Final = 5
_ABSENT: Final = ABSENT
_UNSET: Final = msgspec.UNSET


_decode_usual: Final = msgspec.json.Decoder(Answer).decode
_decode_odd: Final = msgspec.json.Decoder(OddAnswer).decode


def _decode(data: bytes) -> Answer:
    """Raises `msgspec.DecodeError`, and of it `ValidationError` when the JSON is no answer."""
    try:
        answer: Answer = _decode_usual(data)
    except msgspec.ValidationError:
        odd: OddAnswer = _decode_odd(data)
        return Answer(odd.choices, None if odd.usage is not ABSENT else msgspec.UNSET, odd.error)
    return answer


def _says(raw: msgspec.Raw) -> bool:
    if raw is _ABSENT:
        return False
    value = bytes(raw)
    return len(value) > _LONGEST_NOTHING or value not in NOTHING


def _part_speaks(part: Part | None) -> bool:
    """Only whether something is there matters."""
    if part is None:
        return False
    if _says(part.content):
        return True
    for raw in (
        part.tool_calls, part.reasoning_content, part.reasoning, part.thinking, part.refusal, part.function_call,
        part.audio, part.images,
    ):  # fmt: skip
        if _says(raw):
            return True
    return False


def _delta_speaks(choice: Choice) -> bool:
    return _part_speaks(choice.delta)


def _message_speaks(choice: Choice) -> bool:
    return _part_speaks(choice.message)


class _End:
    """How the choices of one answer ended."""

    __slots__ = ("finished", "open", "reason", "usage")

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.finished = False
        """At least one choice ended and none is open."""
        self.reason: str | None = None
        self.usage: Usage | None = None

    def explains_silence(self, has_stop: bool) -> bool:
        """Is there a reason for an answer without content?"""
        spent = self.usage.completion_tokens if self.usage else None
        match self.reason:
            case "content_filter" | "stop_sequence" | "load" | "unload":
                return True
            case "length":
                return spent != 0
            case "stop":
                return has_stop and bool(spent)
        return False


class ChatStream:
    """Reads the events of one stream."""

    __slots__ = ("_decode", "_end", "_only", "_speaks", "content", "done_event", "error", "has_stop", "kept_id")

    def __init__(
        self,
        has_stop: bool = False,
        decode: Callable[[bytes], Any] = _decode,
        speaks: Callable[[Any], bool] = _delta_speaks,
    ) -> None:
        """`decode` reads an event, `speaks` finds content in one of its choices: other operations have others."""
        self.done_event = b"data: [DONE]\n\n"
        self._decode = decode
        self._speaks = speaks
        self.has_stop = has_stop
        self.content = False
        self.error: Said | None = None
        self.kept_id = ""
        self._end = _End()
        self._only: Choice | None = None
        """The choice of the last event, if it had one, which goes on, and said nothing of usage."""

    @property
    def finished(self) -> bool:
        """Every opened choice has its finish_reason."""
        return self._end.finished

    @property
    def usage(self) -> Usage | None:
        return self._end.usage

    def read(self, data: bytes, event: str) -> Frame:
        """`data` is the joined data of one event, `event` its type."""
        self._only = None
        if data.startswith(b"[DONE]"):
            return Frame.DONE
        try:
            answer = self._decode(data)
        except UNREADABLE:
            return Frame.BROKEN
        if answer.error is not ABSENT and bytes(answer.error) not in NOTHING:
            return self._failed(data)
        if event == "error":
            return self._failed(data)
        end = self._end
        usage = answer.usage
        silent = usage is msgspec.UNSET or usage is None
        if not silent:
            end.usage = usage
        choices = answer.choices
        if not choices:
            return Frame.USAGE if usage is not msgspec.UNSET else Frame.QUIET
        content = False
        for choice in choices:
            if self._speaks(choice):
                content = True
            if choice.finish_reason is None:
                end.open.add(choice.index)
            else:
                end.open.discard(choice.index)
                end.reason = "stop_sequence" if _matched(choice) else choice.finish_reason
                end.finished = not end.open
                continue
            end.finished = False
        if content:
            self.content = True
            if silent and len(choices) == 1:
                choice = choices[0]
                if choice.finish_reason is None and isinstance(choice, Choice):
                    self._only = choice
            return Frame.CONTENT
        return Frame.QUIET

    def text(self) -> bytes:
        """The text of the last event of a chat, as JSON, when it said nothing else that matters."""
        only, self._only = self._only, None
        part = only.delta if only is not None else None
        if part is not None:
            for raw in (part.content, part.reasoning_content, part.reasoning):
                if _says(raw):
                    value = bytes(raw)
                    return value if value.startswith(b'"') else b""
        return b""

    def _failed(self, data: bytes) -> Frame:
        self.error = replace(said_in(data), shown=data)
        return Frame.ERROR

    def error_event(self, message: str, kind: str, code: str | None) -> bytes:
        return error_event(message, kind, code)

    def verdict(self) -> Judgement:
        """Of a stream that ended by itself, cleanly."""
        if self.content:
            return SUCCESS if self.finished else INCOMPLETE
        if self.finished and self._end.explains_silence(self.has_stop):
            return SUCCESS
        return EMPTY


def open_chat(request: ChatRequest) -> ChatStream:
    """Who reads the events of one stream."""
    return ChatStream(request.has_stop)


def judge_chat(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """A whole JSON answer under 2xx: its verdict, its usage, and what it said if it is an error after all."""
    # The usual first, in short: content in the first choice, and no error.
    try:
        answer: Answer = _decode_usual(body)
    except UNREADABLE:
        return judge_choices(body, request.has_stop, _decode, _message_speaks)
    choices = answer.choices
    if answer.error is _ABSENT and choices:
        part = choices[0].message
        if part is not None and _says(part.content):
            usage = answer.usage
            return SUCCESS, usage if usage is not _UNSET else None, None
    return judge_choices(body, request.has_stop, _decode, _message_speaks)


def judge_choices(
    body: bytes, has_stop: bool, decode: Callable[[bytes], Any], speaks: Callable[[Any], bool]
) -> tuple[Judgement, Usage | None, Said | None]:
    """The same for any answer that has choices; `decode` reads them, `speaks` finds content in one."""
    try:
        answer = decode(body)
    except msgspec.ValidationError:
        return _OTHER_JSON, None, None
    except UNREADABLE:
        return BROKEN_JSON, None, None
    if answer.error is not ABSENT and bytes(answer.error) not in NOTHING:
        return ERROR_INSIDE, None, said_in(body)
    usage = answer.usage if answer.usage is not msgspec.UNSET else None
    choices = answer.choices or ()
    for choice in choices:
        if speaks(choice):
            return SUCCESS, usage, None
    end = _End()
    end.usage = usage
    for choice in choices:
        end.reason = "stop_sequence" if _matched(choice) else choice.finish_reason
        if end.explains_silence(has_stop):
            return SUCCESS, usage, None
    return EMPTY, usage, None


def _matched(choice: Choice) -> bool:
    """vLLM names the stop string or token that matched."""
    return choice.stop_reason is not ABSENT and bytes(choice.stop_reason) not in NOTHING
