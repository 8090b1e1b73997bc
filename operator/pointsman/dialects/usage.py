"""What an answer cost, in tokens. Pure."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the backend counted them; None when it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
