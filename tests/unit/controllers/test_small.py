"""Drift, settings, ownership, keys, news: small decisions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controllers.cluster import backend

from pointsman.api import meta
from pointsman.controllers.drift import drift, stamped
from pointsman.controllers.keys import Key, delay, keys_of
from pointsman.controllers.ownership import OWNER_ANNOTATION, Whose, whose
from pointsman.controllers.reports import news
from pointsman.controllers.settings import BadSettings, load
from pointsman.domain.report import BackendHealth, GatewayReport, RouteReport
from pointsman.engines.stores import Store
from pointsman.kube.cache import Cache
from pointsman.kube.rbac import LEASE_RULES, RULES
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, JOBS, PODS, ROUTES, Obj

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), JSON, max_size=4), st.integers(0, 9))
def test_what_others_add_is_no_drift(rendered: dict[str, Any], extra: int) -> None:
    live = copy.deepcopy(rendered)
    assert drift(rendered, live) is None
    live["added"] = extra
    assert drift(rendered, live) is None


@pytest.mark.parametrize(
    ("rendered", "live", "path"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ".a.b"),
        ({"a": 1}, {}, ".a"),
        ({"cpu": "1000m"}, {"cpu": "1"}, None),
        ({"m": "1Gi"}, {"m": "1024Mi"}, None),
        ({"cpu": "1000m"}, {"cpu": "2"}, ".cpu"),
        ({"v": ""}, {}, None),
        ({"l": []}, {}, None),
        ({"l": [{"name": "a", "v": 1}]}, {"l": [{"name": "b"}, {"name": "a", "v": 1}]}, None),
        ({"l": [{"name": "a", "v": 1}]}, {"l": [{"name": "b"}]}, ".l[0]"),
        ({"l": ["a", "b"]}, {"l": ["a"]}, ".l"),
        ({"l": ["a", "b"]}, {"l": ["a", "c"]}, ".l[1]"),
        ({"l": [{"key": "a"}, {"key": "a"}]}, {"l": [{"key": "a"}, {"key": "a"}]}, None),
    ],
)
def test_drift_is_found_where_it_is(rendered: Any, live: Any, path: str | None) -> None:
    assert drift(rendered, live) == path


def test_what_is_no_longer_rendered_is_noticed_by_the_digest() -> None:
    base = {"kind": "X", "metadata": {"name": "x"}}
    before = stamped({**base, "spec": {"env": [{"name": "A"}, {"name": "B"}]}})
    after = stamped({**base, "spec": {"env": [{"name": "A"}]}})
    assert drift(after["spec"], before["spec"]) is None
    assert drift(after, before) is not None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


def test_settings_are_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, "image: a:1\ngateway: {replicas: 3, removeAfter: 1m}\nnamespaces: [x]\n"))
    assert (found.image, found.gateway.replicas, found.remove_gateway_after, found.namespaces) == (
        "a:1",
        3,
        60.0,
        ("x",),
    )
    assert load(write(tmp_path, "")) == load(None)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("gatway: {}", "unknown key gatway"),
        ("gateway: {replica: 1}", "unknown key gateway.replica"),
        ("gateway: {replicas: 0}", "gateway.replicas"),
        ("gateway: {removeAfter: soon}", "must be a duration"),
        ("a: [", "not YAML"),
        ("[]", "settings"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(BadSettings, match="settings") as caught:
        load(write(tmp_path, text))
    assert word in str(caught.value)
    with pytest.raises(BadSettings):
        load(tmp_path / "missing.yaml")


def child(kind: str = "Deployment", **metadata: Any) -> Obj:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "pmb-b", "namespace": "ns", **metadata}}


def test_whose_an_object_is() -> None:
    b = backend()
    owner = {"kind": meta.BACKEND_KIND, "name": "b", "uid": "uid-b"}
    ours = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.BACKEND_LABEL: "b"}
    assert whose(child(ownerReferences=[owner]), b) is Whose.OURS
    assert whose(child(annotations={OWNER_ANNOTATION: "uid-b"}), b) is Whose.OURS
    assert whose(child(ownerReferences=[{**owner, "uid": "older"}]), b) is Whose.PREDECESSOR
    assert whose(child(), b) is Whose.FOREIGN
    assert whose(child(labels=ours), b) is Whose.FOREIGN, "labels can be copied"
    assert whose(child("PersistentVolumeClaim", labels=ours), b) is Whose.OURS, "retained by an earlier one"
    assert whose(child("PersistentVolumeClaim", labels={}), b) is Whose.FOREIGN


@given(st.from_regex(r"[a-z]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True))
def test_volume_label_fits_whatever_the_claims_name(claim: str) -> None:
    label = Store(claim, one_node=True).label
    assert 1 <= len(label) <= 63
    assert label[-1].isalnum()


def test_which_keys_a_change_concerns() -> None:
    cache = Cache()
    route = {"metadata": {"name": "r", "namespace": "ns", "uid": "r", "resourceVersion": "1"},
             "spec": {"targets": [{"backend": "b"}]}}  # fmt: skip
    cache.put(ROUTES, route)
    job = child("Job", uid="j", resourceVersion="1", labels={meta.COMPONENT_LABEL: "pull"},
                ownerReferences=[{"kind": meta.BACKEND_KIND, "name": "b", "uid": "u"}])  # fmt: skip
    job["metadata"]["name"] = "pmb-pull-1"
    cache.put(JOBS, job)
    b, r, g = Key("LLMBackend", "ns", "b"), Key("ModelRoute", "ns", "r"), Key("Gateway", "ns")

    def keys(resource: Any, obj: Obj) -> set[Key]:
        return set(keys_of(resource, obj, cache))

    assert keys(BACKENDS, {"metadata": {"name": "b", "namespace": "ns"}}) == {b, r, g}
    assert keys(ROUTES, route) == {r, g, Key("Names", "ns")}
    assert keys(DEPLOYMENTS, child(labels={meta.BACKEND_LABEL: "b"})) == {b}
    assert keys(DEPLOYMENTS, child(labels={})) == {b}, "by its name, when somebody took its labels"
    assert keys(JOBS, job) == {b}
    worker = child("Pod", labels={meta.COMPONENT_LABEL: "pull", meta.SOURCE_LABEL: "pmb-pull-1"})
    assert keys(PODS, worker) == {b}
    gateway = child("Pod", labels={meta.COMPONENT_LABEL: "gateway"})
    assert keys(PODS, gateway) == {g, r}


def test_who_was_just_changed_comes_before_who_is_only_looked_at() -> None:
    def backend(generation: int, observed: int | None) -> Obj:
        status = {} if observed is None else {"observedGeneration": observed}
        metadata = {"name": "b", "namespace": "ns", "generation": generation}
        return {"kind": "LLMBackend", "metadata": metadata, "status": status}

    b, r, names = Key("LLMBackend", "ns", "b"), Key("ModelRoute", "ns", "b"), Key("Names", "ns")
    assert delay(b, backend(2, 2)) == 0.0
    assert delay(b, backend(3, 2)) == delay(b, backend(1, None)) < 0.0
    assert delay(r, backend(3, 2)) == 0.0, "it names what changed, but has not changed"
    assert delay(names, backend(3, 2)) > 0.0


def test_report_is_news_only_for_whom_it_changed() -> None:
    def report(state: str, latency: float, serving: bool) -> GatewayReport:
        backends = (BackendHealth(name="b", generation=1, state=state, latency_ms=latency),)
        return GatewayReport(gateway="g", at=0.0, backends=backends,
                             routes=(RouteReport(name="r", generation=1, serving=serving),))  # fmt: skip

    b, r = Key("LLMBackend", "ns", "b"), Key("ModelRoute", "ns", "r")
    first = report("Healthy", 1.0, True)
    assert [k for k, _ in news("ns", None, first)] == [b, r]
    assert list(news("ns", first, first)) == []
    ((key, after),) = news("ns", first, report("Healthy", 2.0, True))
    assert key == b
    assert after > 1.0, "a figure has time"
    assert list(news("ns", first, report("Unhealthy", 1.0, True))) == [(b, 0.0)]
    assert [k for k, _ in news("ns", first, GatewayReport(gateway="g", at=0.0))] == [b, r]


def test_operator_asks_for_no_wildcard_and_deletes_no_claim() -> None:
    for rule in (*RULES, *LEASE_RULES):
        assert "*" not in (*rule.resources, *rule.verbs, rule.group)
        assert not ({"escalate", "bind", "impersonate", "deletecollection"} & set(rule.verbs))
        if "persistentvolumeclaims" in rule.resources or "pods" in rule.resources:
            assert "delete" not in rule.verbs
        if "secrets" in rule.resources and {"patch", "delete", "update"} & set(rule.verbs):
            assert rule.names == (meta.REPORT_SECRET,)
