"""The operations of OpenAI's API that are relayed. Pure."""

from __future__ import annotations

from pointsman.dialects.openai import CHAT_PATH, compose, error_event, parse_chat
from pointsman.dialects.openai_answer import ChatStream, judge_chat
from pointsman.dialects.operation import Operation

CHAT = Operation(
    "chat", CHAT_PATH,
    parse=parse_chat, compose=compose, judge=judge_chat, open_stream=ChatStream, error_event=error_event,
)  # fmt: skip
