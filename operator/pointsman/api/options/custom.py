"""Options of engine Custom: an image that speaks OpenAI's API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pointsman.api.base import ApiModel, Text
from pointsman.api.options.flags import Flags

Folder = Annotated[str, Text(r"^(/[A-Za-z0-9_.-]+)+$", "must be an absolute path such as /var/cache/engine", 256, 2)]


class CustomOptions(ApiModel):
    """What must be known of an image that Pointsman does not know."""

    port: int = Field(ge=1, le=65535, description="Where it listens.")
    probe_path: Annotated[str, Text(r"^/[!-~]*$", "must be a path such as /health", 256)] = Field(
        default="/health", description="A path that answers 200 when the server can take requests."
    )
    command: Flags = Field(default=(), description="The program, in place of the image's entry point.")
    args: Flags = Field(
        default=(),
        description="Its arguments, in place of the image's. $(MODEL_PATH) and $(MODEL_NAME) stand for the path and the"
        " name of the first model, $(MODEL_1_PATH) and $(MODEL_1_NAME) for those of the second, and so on.",
    )
    model_mount: Folder = Field(
        default="/models", description="Where the image finds the volume with the models, read-only."
    )
    writable: Annotated[tuple[Folder, ...], Field(max_length=8)] = Field(
        default=(),
        description="Folders that it writes to, beside /tmp: empty at each start. All else of the image is read-only.",
    )
