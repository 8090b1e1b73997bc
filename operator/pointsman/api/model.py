"""A model of a backend: its name, its source, what it can do and what it costs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, ListMap, Rule, Text
from pointsman.api.references import LocalRef
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


ModelSource = Annotated[
    str,
    Text(
        r"^(ollama(\+http)?|oci(\+http)?|hf|https?|s3|pvc)://[A-Za-z0-9][A-Za-z0-9._:/@+~%=,-]*$",
        "must be a model's source such as ollama://llama3.2:3b, hf://org/repo, s3://bucket/folder or"
        " https://host/model.gguf",
        512,
    ),
]


REPOSITORY = "^hf://[^/]+/[^/]+/?"
"""A source that is a repository of a Hub, followed by nothing or by one of its files."""
ONE_FILE = "^(https?://|hf://[^/]+/[^/]+/.)"
"""A source whose text says that it is one file."""


class Adapter(ApiModel):
    """What was learnt on top of a model (LoRA), served beside it under a name of its own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.source.startsWith('ollama')",
            "an adapter is a folder with adapter_config.json, take it from hf://org/repo, not from Ollama's registry",
            lambda a: not a.source.startswith("ollama"),
        ),
        Rule(
            f"!self.source.matches('{ONE_FILE}')",
            "an adapter is a folder with adapter_config.json: name it, as in hf://org/repo, not one of its files",
            lambda a: not re.match(ONE_FILE, a.source),
        ),
    )

    name: ModelName = Field(description="The name that routes use; unique in the backend.")
    source: ModelSource = Field(description="Where it comes from, as the model's own source.")
    digest: Digest | None = Field(default=None, description="Pins it.")


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
        Rule(
            "!has(self.adapters) || self.adapters.all(a, a.name != self.name)",
            "an adapter needs another name than its model",
            lambda m: all(a.name != m.name for a in m.adapters),
        ),
        Rule(
            "!has(self.source) || !self.source.startsWith('http://') || has(self.digest)",
            "a source in plain text (http://) needs a digest",
            lambda m: m.digest is not None or not (m.source or "").startswith("http://"),
        ),
        Rule(
            "!has(self.secretRef) || has(self.source)",
            "secretRef belongs to a source",
            lambda m: m.secret_ref is None or m.source is not None,
        ),
    )

    name: ModelName = Field(
        description="The name that routes use; unique in the backend. External: what the server calls it."
    )
    source: ModelSource | None = Field(
        default=None,
        description="Where the model comes from: ollama://[host[:port]/][namespace/]name[:tag] (ollama+http:// without"
        " TLS), hf://org/repo[@revision][/file], s3://bucket/folder, s3://bucket/model.gguf, https://host/model.gguf"
        " (http:// with a digest), oci://registry/repository[:tag] (oci+http:// without TLS), pvc://claim/path.",
    )
    secret_ref: LocalRef | None = Field(
        default=None,
        description="The Secret with the credentials of the source, and of its adapters', one key each: `token`,"
        " `username` and `password`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, `HF_ENDPOINT`,"
        " `AWS_ENDPOINT_URL`, `ca.crt`. Only pulls see it.",
    )
    digest: Digest | None = Field(
        default=None,
        description="Pins the model: the sha256 of its manifest, of its one file, or of its folder's listing. The pull"
        " fails when the source has another.",
    )
    adapters: Annotated[tuple[Adapter, ...], ListMap("name", max_items=16)] = Field(
        default=(),
        description="What is served on top of it (LoRA; engine VLLM). Capabilities and prices are the model's.",
    )
    refresh: Refresh = Field(
        default=Refresh.NEVER,
        description="OnChange: the source is asked again each `pull.refreshEvery` of the installation, and what it has"
        " by then takes the old model's place. Never: only when the annotation pointsman.dev/reconcile-at asks.",
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
        description="Tokens it takes. Longer prompts, by an estimate, go elsewhere while there is somewhere to go."
        " Engines that Pointsman runs are started with it.",
    )
    pricing: Pricing | None = Field(default=None, description="What its tokens cost, where it is not spec.pricing.")

    @property
    def served(self) -> tuple[Model, ...]:
        """The model, and each of its adapters as a model of its own."""
        alike = {"adapters": (), "refresh": Refresh.NEVER}
        given = (a.model_dump(include={"name", "source", "digest"}) for a in self.adapters)
        return (self, *(self.model_copy(update=alike | a) for a in given))
