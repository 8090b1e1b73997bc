"""Which requests a rule of a route is for.

Decided here: what matches. Not here: what becomes of those that do (`table.py`: they have other targets).
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.api import route as api
from pointsman.domain.features import NOTHING, Features
from pointsman.domain.globs import Glob


@dataclass(frozen=True, slots=True)
class HeaderWanted:
    name: bytes
    """Lower case."""
    value: str
    glob: Glob | None

    def fits(self, value: str | None) -> bool:
        if value is None:
            return False
        return value == self.value if self.glob is None else self.glob.matches(value)


@dataclass(frozen=True, slots=True)
class Match:
    """All that is given must hold."""

    task_types: frozenset[api.TaskType] | None = None
    needs: frozenset[api.Needed] = NOTHING
    headers: tuple[HeaderWanted, ...] = ()
    min_tokens: int | None = None
    max_tokens: int | None = None

    @classmethod
    def of(cls, match: api.Match) -> Match:
        return cls(
            frozenset(match.task_types) if match.task_types else None,
            frozenset(match.capabilities or ()),
            tuple(
                HeaderWanted(
                    h.name.lower().encode(), h.value, Glob(h.value) if h.type is api.HeaderMatchType.GLOB else None
                )
                for h in match.headers or ()
            ),
            match.min_context_length,
            match.max_context_length,
        )

    def holds(self, request: Features) -> bool:
        """The cheap questions first."""
        for wanted in self.headers:
            if not wanted.fits(request.header(wanted.name)):
                return False
        if self.task_types is not None and request.task not in self.task_types:
            return False
        if self.needs and not self.needs <= request.needs:
            return False
        if self.min_tokens is not None and request.prompt_tokens < self.min_tokens:
            return False
        return self.max_tokens is None or request.prompt_tokens <= self.max_tokens
