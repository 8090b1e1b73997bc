"""What a model is said to be: what it can do, how much it takes, what it costs.

Decided here: how prices are counted, and which requests a model cannot take. Not here: which requests need what
(`features.py`) and what becomes of a target that is unfit (`candidates.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.api.model import Capability, Pricing
from pointsman.api.route import Needed
from pointsman.api.scalars import millionths

ANSWER_TOKENS = 256
"""What an answer is taken to have when the cost of a request is estimated."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in millionths of whatever currency the prices are in."""

    input: int
    output: int

    @classmethod
    def of(cls, pricing: Pricing | None) -> Price | None:
        if pricing is None:
            return None
        return cls(millionths(pricing.input_per_million_tokens), millionths(pricing.output_per_million_tokens))

    def cost(self, prompt_tokens: int) -> int:
        """Of one request, by estimate. Any unit: costs are only compared."""
        return self.input * prompt_tokens + self.output * ANSWER_TOKENS


@dataclass(frozen=True, slots=True)
class Traits:
    """Of one model of a backend."""

    capabilities: frozenset[Capability] = frozenset()
    """Empty: nothing is declared, everything is assumed."""
    context_length: int | None = None
    """Tokens."""
    price: Price | None = None
    """None: free."""

    @property
    def choosy(self) -> bool:
        """Could a request be unfit for it?"""
        return bool(self.capabilities) or self.context_length is not None

    def lacks(self, needs: frozenset[Needed]) -> list[Needed]:
        """What a request needs and the model does not declare, in the order of the enum."""
        if not self.capabilities or not needs:
            return []
        return [n for n in Needed if n in needs and Capability(n.value) not in self.capabilities]

    @property
    def only_embeds(self) -> bool:
        """Every other capability implies that it can chat."""
        return self.capabilities == _EMBEDDINGS


_EMBEDDINGS = frozenset((Capability.EMBEDDINGS,))
UNDECLARED = Traits()
