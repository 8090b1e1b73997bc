"""What a plan is made of: one change of one object in the cluster each. Values; carried out by `carry_out.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointsman.kube.resources import Obj

PREDECESSOR_SECONDS = 2.0
"""How soon to look again for the children of a deleted backend of the same name."""


@dataclass(frozen=True)
class Apply:
    manifest: Obj
    live: Obj | None
    """What is there, ours; None: it must not be there."""
    why: str


@dataclass(frozen=True)
class Delete:
    live: Obj
    why: str


@dataclass(frozen=True)
class SetOwners:
    """Owners of a shared pull Job; a Job is never applied twice."""

    live: Obj
    owners: tuple[Obj, ...]
    why: str


Step = Apply | Delete | SetOwners


@dataclass
class Draft:
    """Steps as they come together. `again`: in how many seconds to look anew."""

    steps: list[Step] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    asked_later: bool = False
