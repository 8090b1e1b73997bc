"""The YAML on the pages of the engines is accepted: by the API server, the reader of files and the engine's driver."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster

from pointsman.api.engine import Engine
from pointsman.api.objects import LLMBackend
from pointsman.engines.drivers import DRIVERS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "reference" / "engines"
BLOCKS = [
    (f"{page.stem}-{number}", block)
    for page in sorted(PAGES.glob("*.md"))
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S), 1)
]


def objects(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("text", [b[1] for b in BLOCKS], ids=[b[0] for b in BLOCKS])
def test_the_yaml_of_a_page_is_accepted(cluster: Cluster, text: str) -> None:
    said = cluster.kubectl("apply", "--dry-run=server", "-o", "name", "-f", "-", stdin=text)
    assert len(said.split()) == len(objects(text))
    for body in objects(text):
        if body["kind"] == "LLMBackend":
            body["metadata"] |= {"namespace": "default", "uid": "u"}
            spec = LLMBackend.parse(body).spec
            assert DRIVERS[spec.engine].problem(spec) is None


def test_every_engine_that_runs_pods_has_a_page_with_a_backend_and_its_route() -> None:
    shown = {b["spec"]["engine"] for _, text in BLOCKS for b in objects(text) if b["kind"] == "LLMBackend"}
    assert shown == {engine.value for engine in Engine if DRIVERS[engine].runs_pods}
    for page in {name.rpartition("-")[0] for name, _ in BLOCKS}:
        kinds = {b["kind"] for name, text in BLOCKS if name.rpartition("-")[0] == page for b in objects(text)}
        assert kinds == {"LLMBackend", "ModelRoute"}, page
