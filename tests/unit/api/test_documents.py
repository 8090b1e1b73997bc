"""Manifests in the documents are ones that would be accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pointsman.api import meta
from pointsman.api.objects import LLMBackend, ModelRoute

DOCS = Path(__file__).parents[3] / "docs"
KINDS = {meta.BACKEND_KIND: LLMBackend, meta.ROUTE_KIND: ModelRoute}
MANIFESTS = [
    pytest.param(document, id=f"{path.name} {document['kind']} {document['metadata']['name']}")
    for path in sorted(DOCS.rglob("*.md"))
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
    if "apiVersion: pointsman.dev/" in block
    for document in yaml.safe_load_all(block)
    if document["kind"] in KINDS
]


@pytest.mark.parametrize("document", MANIFESTS)
def test_the_manifest_is_accepted(document: dict[str, object]) -> None:
    KINDS[str(document["kind"])].parse(document)
