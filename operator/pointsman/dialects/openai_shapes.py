"""What is read of OpenAI's chat requests and answers: shapes without a decision. Pure.

They stand in a file of their own because msgspec makes its decoders from their annotations, which compiled modules do
not keep. What only matters by being there stays raw.
"""

from __future__ import annotations

import msgspec

from pointsman.dialects.usage import Usage

ABSENT = msgspec.Raw()


class Head(msgspec.Struct, gc=False):
    model: str
    stream: bool | msgspec.UnsetType | None = msgspec.UNSET
    stream_options: msgspec.Raw = ABSENT
    stop: msgspec.Raw = ABSENT
    messages: msgspec.Raw = ABSENT
    task_type: msgspec.Raw = ABSENT


class PlainHead(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    stream_options: msgspec.Raw = ABSENT
    stop: msgspec.Raw = ABSENT
    task_type: msgspec.Raw = ABSENT


class Part(msgspec.Struct, gc=False):
    """A message or a delta. Raw: only whether something is there matters."""

    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT
    images: msgspec.Raw = ABSENT


class Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: Part | None = None
    message: Part | None = None
    finish_reason: str | None = None
    stop_reason: msgspec.Raw = ABSENT


class Answer(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    error: msgspec.Raw = ABSENT


class OddAnswer(msgspec.Struct, gc=False):
    """The same where the usage is not as it should be: that is no reason to refuse an answer."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
