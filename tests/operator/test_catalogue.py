"""What `pointsman models --recommend -o yaml` prints, a real API server accepts."""

from __future__ import annotations

from pointsman.catalogue.catalogue import GIB, catalogue
from pointsman.catalogue.recommend import Wish, manifest
from pointsman.kube.connect import Connection
from pointsman.kube.resources import BACKENDS


async def test_manifest_of_every_model_and_source_is_accepted(api: Connection, namespace: str) -> None:
    for entry in catalogue():
        for source in entry.sources:
            body = manifest(entry, source, Wish(entry.tasks[0], 24 * GIB, 1, 512))
            await api.request("POST", BACKENDS.path(namespace), body=body, params={"dryRun": "All"})
