"""Our two kinds as routing sees them, of many objects at once. Pure.

Decided here: which parts of an object routing sees, and when it may mean something else. The status, which changes all
the time and weighs more than the spec, is none of that, but for the digests of its models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

Object = Mapping[str, Any]
T = TypeVar("T")


class Parsed(Generic[T]):
    """Objects of one kind, each parsed once while what routing sees of it stays: a written status does not count."""

    def __init__(self, parse: Callable[[Object], T], on_bad: Callable[[str, ValidationError], None]) -> None:
        """`on_bad` is told once of each version of an object that cannot be read."""
        self._parse = parse
        self._on_bad = on_bad
        self._seen: dict[str, tuple[Any, T | None]] = {}

    def of(self, objects: Iterable[Object]) -> list[T]:
        """What `objects` (of one namespace) say; those that cannot be read are left out."""
        seen: dict[str, tuple[Any, T | None]] = {}
        for body in objects:
            name, mark = body["metadata"]["name"], _mark(body)
            known = self._seen.get(name)
            seen[name] = known if known is not None and known[0] == mark else (mark, self._read(name, body))
        self._seen = seen
        return [value for _, value in seen.values() if value is not None]

    def _read(self, name: str, body: Object) -> T | None:
        try:
            return self._parse(trimmed(body))
        except ValidationError as error:
            self._on_bad(name, error)
            return None


def _mark(body: Object) -> tuple[Any, ...]:
    """Differs whenever the object may mean something else for routing."""
    m = body["metadata"]
    models = (body.get("status") or {}).get("models") or ()
    return m.get("uid"), m.get("generation"), tuple((x.get("name"), x.get("digest")) for x in models)


def trimmed(body: Object) -> dict[str, Any]:
    """The parts of an LLMBackend or ModelRoute that routing needs: no environment, no managed fields, and of the status
    the digests only."""
    m = body["metadata"]
    kept = ("name", "namespace", "uid", "generation", "creationTimestamp")
    models = (body.get("status") or {}).get("models") or ()
    return {
        "metadata": {k: m[k] for k in kept if k in m},
        "spec": {k: v for k, v in (body.get("spec") or {}).items() if k != "env"},
        "status": {"models": [{"name": x["name"], "digest": x["digest"]} for x in models if x.get("digest")]},
    }
