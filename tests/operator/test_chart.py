"""The chart: fresh in its plain form, accepted by a real API server, and without a value that does nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests import chart
from tests.cluster.cluster import Cluster

from pointsman.controllers.gateway_children import children
from pointsman.controllers.settings import Settings
from pointsman.domain.proxies import Proxy, read_proxies
from pointsman.domain.references import References
from pointsman.engines.gpus import GpuProfile

VALUES = yaml.safe_load((chart.CHART / "values.yaml").read_text())
OTHER: dict[str, Any] = {
    "image.pullPolicy": "Always",
    "imagePullSecrets": ["regcred"],
    "namespaces": ["team-a", "team-b"],
    "operator.logLevel": "debug",
    "operator.nodeSelector": {"a": "b"},
    "operator.tolerations": [{"key": "a", "operator": "Exists"}],
    "operator.affinity": {"nodeAffinity": {}},
    "gateway.nodeSelector": {"a": "b"},
    "gateway.tolerations": [{"key": "a", "operator": "Exists"}],
    "gateway.removeAfter": "1m",
    "gpuProfiles": {"a100": {"product": "NVIDIA-A100-SXM4-80GB", "memory": "80Gi"}},
    "gateway.proxy.httpsProxy": "http://proxy.example:3128",
    "gateway.proxy.httpProxy": "http://proxy.example:3128",
}
"""Another value of each that cannot be made by rule."""


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def another(path: str, value: Any) -> Any:
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return "7" if path.endswith((".cpu", ".memory")) else "another"


@pytest.mark.parametrize(("path", "value"), list(leaves(VALUES)), ids=lambda v: v if isinstance(v, str) else "")
def test_every_value_acts(path: str, value: Any) -> None:
    changed = copy.deepcopy(VALUES)
    at = changed
    *front, last = path.split(".")
    for key in front:
        at = at[key]
    at[last] = another(path, value)
    assert chart.template(changed) != chart.template()


def test_a_misspelt_value_is_refused() -> None:
    with pytest.raises(RuntimeError, match="additional properties 'gatewy' not allowed"):
        chart.template({"gatewy": {"replicas": 3}})


def test_the_plain_manifests_are_fresh() -> None:
    assert chart.PLAIN.read_text() == chart.plain(), "stale: run `make generate`"


def test_a_real_api_server_accepts_the_plain_manifests(control_plane: Cluster) -> None:
    control_plane.kubectl("create", "namespace", chart.NAMESPACE, check=False)
    control_plane.kubectl("apply", "--server-side", "--dry-run=server", "-k", str(chart.PLAIN.parent))


def test_namespaces_get_roles_and_no_cluster_role_for_the_operator() -> None:
    rendered = [d for d in yaml.safe_load_all(chart.template({"namespaces": ["team-a", "team-b"]})) if d]
    bindings = [d for d in rendered if d["kind"] == "ClusterRoleBinding"]
    assert bindings == []
    roles = [d["metadata"]["namespace"] for d in rendered if d["kind"] == "RoleBinding"]
    assert {"team-a", "team-b"} <= set(roles)


def test_the_proxy_of_the_values_is_the_environment_of_each_gateway() -> None:
    proxy = {"httpsProxy": "http://proxy.example:3128", "noProxy": ".corp.example", "secretName": "proxy"}
    rendered = [d for d in yaml.safe_load_all(chart.template({"gateway": {"proxy": proxy}})) if d]
    (config,) = [d["data"]["config.yaml"] for d in rendered if d["kind"] == "ConfigMap"]
    settings = Settings.model_validate(yaml.safe_load(config))
    (deployment,) = [o for o in children("ns", settings, References()) if o["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {"name": "NO_PROXY", "value": ".corp.example"},
    ]
    assert container["envFrom"] == [{"secretRef": {"name": "proxy"}}]
    found = read_proxies({e["name"]: e["value"] for e in container["env"]})
    assert found.of("api.example.com", 443, tls=True) == Proxy("proxy.example", 3128)
    assert found.of("llm.corp.example", 443, tls=True) is None


def test_without_a_proxy_a_gateway_has_no_such_variable() -> None:
    (deployment,) = [o for o in children("ns", Settings(), References()) if o["kind"] == "Deployment"]
    assert "env" not in deployment["spec"]["template"]["spec"]["containers"][0]


def test_the_gpu_profiles_of_the_values_are_those_of_the_operator() -> None:
    profile = {"vendor": "AMD", "product": "p", "resourceName": "amd.com/gpu", "memory": "192Gi",
               "nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}],
               "runtimeClassName": "r"}  # fmt: skip
    rendered = [d for d in yaml.safe_load_all(chart.template({"gpuProfiles": {"mi300x": profile}})) if d]
    (config,) = [d["data"]["config.yaml"] for d in rendered if d["kind"] == "ConfigMap"]
    settings = Settings.model_validate(yaml.safe_load(config))
    assert settings.gpu_profiles["mi300x"].to_api() == profile
    assert set(profile) == {f.alias or n for n, f in GpuProfile.model_fields.items()}
    with pytest.raises(RuntimeError, match="produkt"):
        chart.template({"gpuProfiles": {"mi300x": {"produkt": "p"}}})


def test_only_a_cluster_wide_operator_may_list_nodes() -> None:
    for values, kinds in (({}, {"ClusterRole"}), ({"namespaces": ["team-a"]}, set())):
        rendered = [d for d in yaml.safe_load_all(chart.template(values)) if d]
        having = {d["kind"] for d in rendered for r in d.get("rules") or () if "nodes" in r["resources"]}
        assert having == kinds


def test_a_proxy_of_another_kind_is_refused() -> None:
    with pytest.raises(RuntimeError, match="proxy"):
        chart.template({"gateway": {"proxy": {"httpsProxy": "socks5://proxy.example:1080"}}})
