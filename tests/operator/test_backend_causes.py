"""What is wrong stands in the conditions of a backend, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator import paper
from tests.operator.bench import Bench, condition, external, ollama, route, says
from tests.operator.conftest import eventually
from tests.operator.hands import allow_no_pods, server_pods

from pointsman.kube.client import Client
from pointsman.kube.connect import Connection


@pytest.mark.parametrize(
    ("reason", "message", "last", "said"),
    [
        ("ImagePullBackOff", "Back-off pulling image", None, "ImagePullFailed"),
        ("CreateContainerConfigError", "secret not found", None, "ContainerConfigError"),
        ("CrashLoopBackOff", "back-off", {"exitCode": 1, "reason": "Error"}, "CrashLoop"),
        ("CrashLoopBackOff", "back-off", {"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory"),
    ],
)
async def test_ready_names_the_root_cause(
    api: Connection, bench: Bench, namespace: str, reason: str, message: str, last: dict[str, Any] | None, said: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    (pod,) = await server_pods(api, namespace, "b")
    await paper.waits(api, pod, reason, message, last)
    await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", said)
    assert says(backend, "Available") == ("False", said)
    assert condition(backend, "Ready")["message"]


async def test_refused_pod_is_said_with_the_api_servers_words(api: Connection, bench: Bench, namespace: str) -> None:
    await allow_no_pods(api, namespace)
    await Client(api).create(ollama("b", namespace))

    async def refused() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("False", "PodRefused")

    await eventually(refused)
    assert "quota" in condition(await bench.backend("b"), "Ready")["message"]


async def test_refused_child_is_said_and_tried_again(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}))
    out = await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", "ApplyRefused")
    assert "must be less than or equal to cpu limit" in condition(backend, "Ready")["message"]
    assert out[f"LLMBackend {namespace}/b"].seconds is not None


async def test_external_is_unknown_without_a_report_and_names_a_missing_secret(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(external("free", namespace))
    await Client(api).create(external("paid", namespace, secret="key"))
    await bench.settle()
    assert says(await bench.backend("free"), "Ready") == ("Unknown", "NoReport")
    paid = await bench.backend("paid")
    assert says(paid, "Ready") == ("False", "SecretMissing")
    assert says(paid, "Available") == ("True", "NotOursToRun")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace},
              "stringData": {"api-key": "sk-not-to-be-seen"}}  # fmt: skip
    await Client(api).create(secret)

    async def noticed() -> bool:
        await bench.settle()
        return says(await bench.backend("paid"), "Ready") == ("Unknown", "NoReport")

    await eventually(noticed)
    assert "sk-not-to-be-seen" not in repr(bench.context.__dict__) + repr(bench.secrets.__dict__)


async def test_a_missing_ca_bundle_is_said_until_it_is_there(api: Connection, bench: Bench, namespace: str) -> None:
    held = {"url": "https://a.example.test/v1", "caBundleRef": {"name": "corp-ca"}}
    await Client(api).create(external("b", namespace, external=held))
    await Client(api).create(route("r", namespace, ["chat"], "b"))
    await bench.settle()
    backend = await bench.backend("b")
    sentence = "ConfigMap corp-ca does not exist: create it with the CA's certificate in PEM under ca.crt"
    assert says(backend, "Ready") == ("False", "CaBundleMissing")
    assert condition(backend, "Ready")["message"] == sentence
    refs = condition(await bench.route("r"), "ResolvedRefs")
    assert (refs["status"], refs["reason"]) == ("False", "CaBundleMissing")
    assert refs["message"] == f"LLMBackend b: {sentence}"
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corp-ca", "namespace": namespace}}
    config_map["data"] = {"ca.crt": "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body=config_map)

    async def noticed() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("Unknown", "NoReport")

    await eventually(noticed)
    assert says(await bench.route("r"), "ResolvedRefs") == ("True", "Resolved")
