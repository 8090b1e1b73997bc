"""The API server goes away and comes back, through a TCP proxy that cuts: nothing is lost, nothing breaks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from tests.operator.bench import ollama
from tests.operator.conftest import eventually
from tests.operator.process import OperatorProcess
from tests.support.tcp_proxy import TcpProxy, through

from pointsman.controllers.operator import LOST_EXIT
from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.lease import RENEW_SECONDS
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, SERVICES, Obj, uid_of

CAUGHT_UP_SECONDS = 60.0


async def test_operator_catches_up_after_an_outage(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    client = Client(api)
    where = urlsplit(api.server)
    async with TcpProxy(where.hostname or "", where.port or 443) as proxy:
        async with OperatorProcess(through(proxy, operator_kubeconfig, tmp_path), tmp_path, namespace) as operator:
            await eventually(operator.leads, 90)
            await client.create(ollama("old", namespace, replicas=0))
            await client.create(ollama("gone", namespace, replicas=0))

            async def made() -> tuple[Obj, Obj] | None:
                service = await client.get(SERVICES, namespace, "pmb-old")
                deployment = await client.get(DEPLOYMENTS, namespace, "pmb-gone")
                return (service, deployment) if service and deployment else None

            service, _ = await eventually(made)
            await proxy.close()
            # Meanwhile: a child is deleted, a backend comes, another goes.
            await client.delete(SERVICES, namespace, "pmb-old", uid=uid_of(service))
            await client.create(ollama("new", namespace, replicas=0))
            gone = await client.get(BACKENDS, namespace, "gone")
            assert gone is not None
            await client.delete(BACKENDS, namespace, "gone", uid=uid_of(gone))
            before = proxy.accepted
            await proxy.open()
            proxy.cut_after = 3000  # and the first list breaks off in the middle

            async def caught_up() -> bool:
                old = await client.get(SERVICES, namespace, "pmb-old")
                new = await client.get(DEPLOYMENTS, namespace, "pmb-new")
                return old is not None and new is not None

            await eventually(caught_up, CAUGHT_UP_SECONDS)
            assert proxy.accepted > before
            assert await operator.leads(), "an outage shorter than the lease ends nothing"

        async def collected() -> bool:
            return await client.get(DEPLOYMENTS, namespace, "pmb-gone") is None

        await eventually(collected)


async def test_operator_that_cannot_renew_its_lease_ends(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    where = urlsplit(api.server)
    async with TcpProxy(where.hostname or "", where.port or 443) as proxy:
        operator = OperatorProcess(through(proxy, operator_kubeconfig, tmp_path), tmp_path, namespace)
        try:
            await eventually(operator.leads, 90)
            proxy.silent = True  # no reset, no answer: the worst kind
            code = await asyncio.to_thread(operator.process.wait, RENEW_SECONDS + 60)
            assert code == LOST_EXIT
        finally:
            if operator.process.poll() is None:
                operator.process.kill()
    assert '"the lease is lost' in operator.log.read_text()
