"""Which content the pods of an engine have loaded that reads its models once, at its start. Pure.

Decided here: when such pods are replaced because the content of a model is another now. The first content of a pull is
no change: the pods wait for it. What counts stands in an annotation of the workload, written in one apply with the
pods' new template: an operator that ends in between has lost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.api import meta
from pointsman.controllers.workload import template
from pointsman.kube.resources import Obj, annotations_of

LOADED_ANNOTATION = f"{meta.GROUP}/loaded"
"""On the workload: `<pull>=<digest>` of each model, separated by commas."""
CONTENT_ANNOTATION = f"{meta.GROUP}/content"
"""On its pods: the same, as of the last change."""


@dataclass(frozen=True)
class Loaded:
    """The annotations of a workload and of its pods; empty for one that there is nothing to say of."""

    workload: str = ""
    pods: str = ""


def loaded(live: Obj | None, contents: Mapping[str, str]) -> Loaded:
    """`contents`: the digest that each pull has brought, by the name of its Job; empty while it is under way."""
    before = _read(annotations_of(live).get(LOADED_ANNOTATION, "")) if live else {}
    pods = str(annotations_of(template(live)).get(CONTENT_ANNOTATION, ""))
    now = {pull: text for pull, digest in contents.items() if (text := digest or before.get(pull, ""))}
    if any(pull in before and before[pull] != digest for pull, digest in now.items()):
        pods = _written(now)
    return Loaded(_written(now), pods)


def _read(text: str) -> dict[str, str]:
    return {pull: digest for pair in text.split(",") if pair for pull, _, digest in [pair.partition("=")]}


def _written(contents: Mapping[str, str]) -> str:
    return ",".join(f"{pull}={digest}" for pull, digest in sorted(contents.items()))
