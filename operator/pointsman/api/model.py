"""A model of a backend: its name, its source, what it can do and what it costs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule, Text
from pointsman.api.scalars import Digest, ModelName, Money


class Capability(StrEnum):
    """What a model can do."""

    CHAT = "Chat"
    TOOLS = "Tools"
    VISION = "Vision"
    EMBEDDINGS = "Embeddings"
    CODE = "Code"
    REASONING = "Reasoning"


class Pricing(ApiModel):
    """What tokens cost. In one currency throughout; amounts are strings, so that nothing is rounded."""

    input_per_million_tokens: Money = Field(description="For a million tokens of prompts.")
    output_per_million_tokens: Money = Field(description="For a million tokens of answers.")


class Refresh(StrEnum):
    """Whether a model that is there is asked for again."""

    NEVER = "Never"
    ON_CHANGE = "OnChange"


class Model(ApiModel):
    """A model that this backend serves."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.refresh == 'Never' || !has(self.digest)",
            "a model with a digest never changes: remove refresh, or the digest",
            lambda m: m.refresh is Refresh.NEVER or m.digest is None,
        ),
        Rule(
            "self.refresh == 'Never' || has(self.source)",
            "refresh needs a source to ask",
            lambda m: m.refresh is Refresh.NEVER or m.source is not None,
        ),
    )

    name: ModelName = Field(
        description="The name that routes use; unique in the backend. External: what the server calls it."
    )
    source: (
        Annotated[
            str,
            Text(
                r"^(ollama(\+http)?|hf)://[A-Za-z0-9][A-Za-z0-9._:/@+-]*$",
                "must be a model's source such as ollama://llama3.2:3b, ollama://registry.example:5000/team/model:tag"
                " (ollama+http:// for a registry without TLS) or hf://org/repo@revision/file",
                512,
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Where the model comes from: ollama://[host[:port]/][namespace/]name[:tag], or"
        " hf://org/repo[@revision][/file].",
    )
    digest: Digest | None = Field(
        default=None,
        description="Pins the model: the sha256 of its manifest. The pull fails when the source has another.",
    )
    refresh: Refresh = Field(
        default=Refresh.NEVER,
        description="OnChange: the source is asked again each `pull.refreshEvery` of the installation, and what it has"
        " by then takes the old model's place. Never: only when the annotation pointsman.dev/reconcile-now asks.",
    )
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=6)] = Field(
        default=(),
        description="All that the model can do. A request that needs Tools, Vision or Embeddings is not sent to a model"
        " that declares others; Code and Reasoning draw requests of such a task. Without it, it is taken to do all.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    context_length: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Tokens it takes. Longer prompts, by an estimate, go elsewhere while there is somewhere to go.",
    )
    pricing: Pricing | None = Field(default=None, description="What its tokens cost, where it is not spec.pricing.")
