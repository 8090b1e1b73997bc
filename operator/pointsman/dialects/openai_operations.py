"""The operations of OpenAI's API that are relayed. Pure."""

from __future__ import annotations

from pointsman.api.route import Needed
from pointsman.dialects.openai import CHAT_PATH, compose, compose_in_place, parse_chat
from pointsman.dialects.openai_answer import judge_chat, open_chat
from pointsman.dialects.openai_completions import (
    COMPLETIONS_PATH,
    judge_completion,
    open_text_stream,
    parse_completion,
)
from pointsman.dialects.openai_embeddings import EMBEDDINGS_PATH, judge_embeddings, parse_embedding
from pointsman.dialects.openai_responses import RESPONSES_PATH, compose_response_request, parse_response_request
from pointsman.dialects.openai_responses_answer import ResponseStream, judge_response, response_id
from pointsman.dialects.openai_responses_beside import (
    COMPACT_PATH,
    INPUT_TOKENS_PATH,
    judge_compacted,
    judge_count,
    parse_beside,
)
from pointsman.dialects.operation import Operation

CHAT = Operation(
    "chat", CHAT_PATH, parse=parse_chat, compose=compose, compose_in_place=compose_in_place,
    judge=judge_chat, open_stream=open_chat, wide=True,
)  # fmt: skip
COMPLETIONS = Operation(
    "text_completion", COMPLETIONS_PATH,
    parse=parse_completion, compose=compose, compose_in_place=compose_in_place,
    judge=judge_completion, open_stream=open_text_stream,
)  # fmt: skip
EMBEDDINGS = Operation(
    "embeddings", EMBEDDINGS_PATH,
    parse=parse_embedding, compose=compose, compose_in_place=compose_in_place,
    judge=judge_embeddings, open_stream=open_chat,
    needs=frozenset((Needed.EMBEDDINGS,)),
)  # fmt: skip
RESPONSES = Operation(
    "responses", RESPONSES_PATH,
    parse=parse_response_request, compose=compose_response_request, judge=judge_response, open_stream=ResponseStream,
    kept_id=response_id,
)  # fmt: skip
COMPACT = Operation(
    "responses.compact", COMPACT_PATH,
    parse=parse_beside, compose=compose_response_request, judge=judge_compacted, open_stream=ResponseStream,
)  # fmt: skip
INPUT_TOKENS = Operation(
    "responses.input_tokens", INPUT_TOKENS_PATH,
    parse=parse_beside, compose=compose_response_request, judge=judge_count, open_stream=ResponseStream,
)  # fmt: skip

OPERATIONS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, COMPACT, INPUT_TOKENS)
