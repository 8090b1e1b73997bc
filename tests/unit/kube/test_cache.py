"""What the cache believes when lists and events come in any order."""

from __future__ import annotations

import copy
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pointsman.api import meta
from pointsman.kube.cache import Cache
from pointsman.kube.resources import PODS, Obj


def pod(name: str, version: int, uid: str = "", **labels: str) -> Obj:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": uid or name, "resourceVersion": str(version)}
    if labels:
        metadata["labels"] = {meta.BACKEND_LABEL: labels["backend"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def test_older_version_never_replaces_a_newer_one() -> None:
    cache = Cache()
    assert cache.put(PODS, pod("a", 5))
    assert not cache.put(PODS, pod("a", 5))
    assert not cache.put(PODS, pod("a", 4))
    assert cache.put(PODS, pod("a", 6))


def test_deleted_object_does_not_come_back_with_a_late_event() -> None:
    cache = Cache()
    cache.put(PODS, pod("a", 5))
    assert cache.remove(PODS, pod("a", 7))
    assert not cache.put(PODS, pod("a", 6))
    assert cache.get(PODS, "ns", "a") is None
    assert cache.put(PODS, pod("a", 9, uid="another"))


def test_list_says_what_vanished_but_not_of_what_is_newer_than_itself() -> None:
    cache = Cache()
    cache.put(PODS, pod("old", 3))
    cache.put(PODS, pod("new", 12))
    changed = cache.replace(PODS, [pod("listed", 8)], "10", None)
    assert {o["metadata"]["name"] for o in changed} == {"old", "listed"}
    assert {o["metadata"]["name"] for o in cache.all(PODS)} == {"new", "listed"}


def test_label_index_follows_the_object() -> None:
    cache = Cache()
    cache.put(PODS, pod("a", 1, backend="x"))
    assert len(cache.labelled(PODS, "ns", meta.BACKEND_LABEL, "x")) == 1
    cache.put(PODS, pod("a", 2, backend="y"))
    assert cache.labelled(PODS, "ns", meta.BACKEND_LABEL, "x") == []
    assert len(cache.labelled(PODS, "ns", meta.BACKEND_LABEL, "y")) == 1
    cache.remove(PODS, pod("a", 3, backend="y"))
    assert cache.labelled(PODS, "ns", meta.BACKEND_LABEL, "y") == []


def test_managed_fields_are_not_kept() -> None:
    cache = Cache()
    big = pod("a", 1)
    big["metadata"]["managedFields"] = [{"manager": "x"}]
    cache.put(PODS, big)
    kept = cache.get(PODS, "ns", "a")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


@given(st.integers(0, 2**32), st.lists(st.sampled_from(["put", "delete"]), min_size=1, max_size=12))
def test_events_in_any_order_end_at_the_last(seed: int, history: list[str]) -> None:
    """One object's life (made, changed, deleted, made again); its events arrive shuffled and doubled."""
    events: list[tuple[str, Obj]] = []
    life, alive = 0, False
    for version, what in enumerate(history, 1):
        if what == "put":
            life += not alive
            alive = True
            events.append(("put", pod("a", version, uid=f"life-{life}")))
        elif alive:
            alive = False
            events.append(("delete", pod("a", version, uid=f"life-{life}")))
    events += events
    random.Random(seed).shuffle(events)
    cache = Cache()
    for what, obj in events:
        obj = copy.deepcopy(obj)
        (cache.put if what == "put" else cache.remove)(PODS, obj)
    found = cache.get(PODS, "ns", "a")
    if alive:
        last = max(int(o["metadata"]["resourceVersion"]) for w, o in events if w == "put")
        assert found is not None
        assert found["metadata"]["resourceVersion"] == str(last)
    else:
        assert found is None
