"""A namespace's gateway: made with the first resource, removed a while after the last, and what it may read."""

from __future__ import annotations

from typing import Any

from tests.operator.bench import Bench, condition, external, ollama, route, says

from pointsman.controllers.gateway_children import rules
from pointsman.domain.references import References
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import (
    BACKENDS,
    BUDGETS,
    DEPLOYMENTS,
    ROLE_BINDINGS,
    ROLES,
    ROUTES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
    uid_of,
)

PARTS = (DEPLOYMENTS, SERVICES, SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, BUDGETS)
NAME = "pointsman-gateway"


async def parts(api: Connection, namespace: str) -> list[str]:
    return [r.kind for r in PARTS if await Client(api).get(r, namespace, NAME) is not None]


async def secret_names(api: Connection, namespace: str, resource: str = "secrets") -> list[str]:
    """The Secrets (or ConfigMaps) that the gateway may read; `*` when it may read all."""
    role = await Client(api).get(ROLES, namespace, NAME)
    assert role is not None
    out: list[str] = []
    for rule in role["rules"]:
        if resource in rule["resources"]:
            out += rule.get("resourceNames") or ["*"]
    return out


async def may(api: Connection, namespace: str, verb: str, resource: str, name: str = "", group: str = "") -> bool:
    """Asks the API server what the gateway's service account may do."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{NAME}",
            "resourceAttributes": {
                "namespace": namespace, "verb": verb, "resource": resource, "name": name, "group": group,
            },
        },
    }  # fmt: skip
    answer = await api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return bool(answer["status"]["allowed"])


async def test_gateway_comes_with_the_first_resource_and_goes_after_the_last(
    api: Connection, bench: Bench, namespace: str
) -> None:
    made = await Client(api).create(route("r", namespace, ["chat"], "nowhere"))
    await bench.settle()
    assert await parts(api, namespace) == [r.kind for r in PARTS]
    deployment = await Client(api).get(DEPLOYMENTS, namespace, NAME)
    assert deployment is not None
    assert "ownerReferences" not in deployment["metadata"]
    assert deployment["spec"]["replicas"] == 2
    await Client(api).delete(ROUTES, namespace, "r", uid=uid_of(made))
    await bench.settle()
    assert await parts(api, namespace) == [r.kind for r in PARTS], "clients may be back in a moment"
    bench.ahead += 301.0
    await bench.settle()
    assert await parts(api, namespace) == []
    assert await Client(api).get(SECRETS, namespace, "pointsman-report") is None


async def test_gateway_may_read_exactly_the_secrets_that_are_named(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("local", namespace))
    await bench.settle()
    assert await secret_names(api, namespace) == [], "an empty list of names would grant all: no rule"
    assert not await may(api, namespace, "get", "secrets", "pointsman-report")
    assert await may(api, namespace, "watch", "llmbackends", group="pointsman.dev")
    assert await may(api, namespace, "watch", "endpointslices", group="discovery.k8s.io")
    assert not await may(api, namespace, "patch", "llmbackends", group="pointsman.dev")
    paid = await Client(api).create(external("paid", namespace, secret="key-a"))
    await Client(api).create(external("other", namespace, secret="key-b"))
    await bench.settle()
    assert await secret_names(api, namespace) == ["key-a", "key-b"]
    assert await may(api, namespace, "get", "secrets", "key-a")
    assert not await may(api, namespace, "get", "secrets", "else")
    await Client(api).delete(BACKENDS, namespace, "paid", uid=uid_of(paid))
    await bench.settle()
    assert await secret_names(api, namespace) == ["key-b"]


async def test_gateway_may_read_exactly_the_bundles_that_are_named(
    api: Connection, bench: Bench, namespace: str
) -> None:
    held: dict[str, Any] = {"url": "https://a.example.test/v1", "caBundleRef": {"name": "corp-ca"}}
    await Client(api).create(external("a", namespace, external=held))
    other = {**held, "caBundleRef": {"kind": "Secret", "name": "own-ca"}}
    await Client(api).create(external("b", namespace, external=other))
    await bench.settle()
    assert await secret_names(api, namespace, "configmaps") == ["corp-ca"]
    assert await secret_names(api, namespace) == ["own-ca"]
    assert await may(api, namespace, "watch", "configmaps", "corp-ca")
    assert not await may(api, namespace, "get", "configmaps", "kube-root-ca.crt")


async def test_report_token_is_made_once(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("local", namespace))
    await bench.settle()
    first = await Client(api).get(SECRETS, namespace, "pointsman-report")
    await bench.settle()
    again = Bench(bench.connection, namespace)
    await again.settle()
    await again.close()
    second = await Client(api).get(SECRETS, namespace, "pointsman-report")
    assert first is not None
    assert second is not None
    assert first["data"] == second["data"]
    assert len(first["data"]["token"]) > 40


async def test_gateways_children_are_repaired(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("local", namespace))
    await bench.settle()
    spoilt: list[tuple[Resource, dict[str, Any]]] = [
        (DEPLOYMENTS, {"spec": {"replicas": 0}}),
        (DEPLOYMENTS, {"metadata": {"labels": None}}),
        (SERVICES, {"metadata": {"labels": {"app.kubernetes.io/component": None}}}),
        (ROLES, {"rules": []}),
        (BUDGETS, {"spec": {"maxUnavailable": 0}}),
    ]
    for resource, body in spoilt:
        await api.request("PATCH", resource.path(namespace, NAME), body=body, content_type=MERGE_PATCH)
        await bench.settle()
    for resource in (SERVICE_ACCOUNTS, ROLE_BINDINGS):
        live = await Client(api).get(resource, namespace, NAME)
        assert live is not None
        await Client(api).delete(resource, namespace, NAME, uid=uid_of(live))
    await bench.settle()
    assert await parts(api, namespace) == [r.kind for r in PARTS]
    deployment = await Client(api).get(DEPLOYMENTS, namespace, NAME)
    role = await Client(api).get(ROLES, namespace, NAME)
    budget = await Client(api).get(BUDGETS, namespace, NAME)
    assert deployment is not None
    assert role is not None
    assert budget is not None
    assert deployment["spec"]["replicas"] == 2
    assert deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"
    assert role["rules"] == rules(References())
    assert budget["spec"]["maxUnavailable"] == 1


async def test_foreign_gateway_is_left_alone_and_the_routes_say_so(
    api: Connection, bench: Bench, namespace: str
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": namespace},
               "spec": {"ports": [{"port": 80}]}}  # fmt: skip
    before = await Client(api).create(service)
    await Client(api).create(route("r", namespace, ["chat"], "nowhere"))
    await bench.settle()
    after = await Client(api).get(SERVICES, namespace, NAME)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    seen = await bench.route("r")
    assert says(seen, "Serving") == ("False", "GatewayNotReady")
    assert f"Service {NAME} exists" in condition(seen, "Serving")["message"]
