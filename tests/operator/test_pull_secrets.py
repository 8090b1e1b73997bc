"""A pull and its Secret, with the operator's own process, rights and watches: nothing else happens to the backend."""

from __future__ import annotations

from pathlib import Path

from tests.operator import paper
from tests.operator.bench import ollama
from tests.operator.conftest import eventually
from tests.operator.hands import DENIED, pull_pod, ready_says, server_pods
from tests.operator.process import OperatorProcess

from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import JOBS, Obj, uid_of

QUICK = 20.0
"""Seconds; the operator looks by itself after ten minutes, and never again at a pull that was refused."""


async def test_a_pull_waits_for_its_secret_and_is_made_again_when_it_changes(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    async def jobs() -> list[Obj]:
        return (await Client(api).list(JOBS, namespace))[0]

    async def secret(**keys: str) -> None:
        body = {"stringData": keys}
        await api.request(
            "PATCH", f"/api/v1/namespaces/{namespace}/secrets/key", body=body, content_type=MERGE_PATCH
        )  # fmt: skip

    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 30)
        gated = [{"name": "m", "source": "ollama://tiny:1", "secretRef": {"name": "key"}}]
        await Client(api).create(ollama("b", namespace, models=gated))
        await server_pods(api, namespace, "b")
        await ready_says(api, namespace, "b", "SecretMissing")
        assert await jobs() == []

        metadata = {"name": "key", "namespace": namespace}
        held = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "never-shown-1"}}
        await Client(api).create(held)

        async def started() -> Obj | None:
            return next(iter(await jobs()), None)

        first = await eventually(started, QUICK, "the pull starts when its Secret appears")
        await paper.end(api, await pull_pod(api, namespace), 24, DENIED)
        await ready_says(api, namespace, "b", "AccessDenied")

        await secret(token="never-shown-2")

        async def again() -> Obj | None:
            return next((j for j in await jobs() if uid_of(j) != uid_of(first)), None)

        second = await eventually(again, QUICK, "the pull is made again when its Secret changes")
        await paper.end(api, await pull_pod(api, namespace), 24, DENIED)
        await ready_says(api, namespace, "b", "AccessDenied")

        other = {**held, "metadata": {**metadata, "name": "another"}}
        await Client(api).create(other)
        mark = {"metadata": {"annotations": {"example.test/mark": "1"}}}
        await api.request(
            "PATCH", f"/apis/pointsman.dev/v1alpha1/namespaces/{namespace}/llmbackends/b", body=mark,
            content_type=MERGE_PATCH,
        )  # fmt: skip
        before = await operator.metrics()
        visits = 'pointsman_operator_reconciles_total{kind="LLMBackend"'

        async def visited() -> bool:
            now = await operator.metrics()
            return any(v > before.get(k, 0) for k, v in now.items() if k.startswith(visits))

        await eventually(visited, QUICK, "the backend is visited")
        assert [uid_of(j) for j in await jobs()] == [uid_of(second)], "with the same Secret it would be refused again"
        assert "never-shown" not in operator.log.read_text()
