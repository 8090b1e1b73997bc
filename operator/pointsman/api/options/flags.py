"""What the options of several engines share: chat templates, and flags that have no field."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pointsman.api.base import Text

ChatTemplate = Annotated[str, Text(r"[{}]", "must be a Jinja template such as {% for m in messages %}…", 32768, 1)]
"""A Jinja template as text."""
ParserName = Annotated[
    str, Text(r"^[a-z0-9][a-z0-9_]*$", "must be a parser's name such as hermes or qwen3_coder", 64, 1)
]
"""Which parsers there are is the matter of the engine's release."""
FormatName = Annotated[str, Text(r"^[a-z0-9][a-z0-9_-]*$", "must be a format's name such as fp8, awq or q8_0", 64, 1)]
"""Which formats there are is the matter of the engine's release."""
Flags = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=2048)], ...], Field(max_length=64)]
"""Words of a command line, handed on as they are; the engine's own word on them is in its log."""
