"""Options of engine Custom: an image that speaks OpenAI's API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pointsman.api.base import ApiModel, Text


class CustomOptions(ApiModel):
    """What must be known of an image that Pointsman does not know."""

    port: int = Field(ge=1, le=65535, description="Where it listens.")
    probe_path: Annotated[str, Text(r"^/[!-~]*$", "must be a path such as /health", 256)] = Field(
        default="/health", description="A path that answers 200 when the server can take requests."
    )
