"""Patterns in which `*` stands for any text, the empty one too; everything else stands for itself.

Decided here: what a pattern matches, and which of two is the more specific. Not here: what names are matched for
(`table.py`) and which headers (`rules.py`). Matching takes one pass over the text, whatever pattern and text are: both
may come from people who mean no good, and requests of others wait meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Glob:
    pattern: str

    @property
    def specificity(self) -> tuple[int, int]:
        """The greater, the more specific: first the characters that stand for themselves, then the fewer stars."""
        stars = self.pattern.count("*")
        return (len(self.pattern) - stars, -stars)

    def matches(self, text: str) -> bool:
        first, *rest = self.pattern.split("*")
        if not rest:
            return text == first
        *middle, last = rest
        if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            # The first place is as good as any: what follows has the most room then.
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


def is_glob(name: str) -> bool:
    return "*" in name
