"""The reflector against a real API server, through a proxy that breaks the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from tests.cluster.cluster import Cluster
from tests.support.engine import until
from tests.support.tcp_proxy import TcpProxy

from pointsman.api import crd
from pointsman.kube.connect import Connection, NotFound, connect
from pointsman.kube.reflector import Items, Reflector, Selection


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    name = f"reflector-{uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def crds(control_plane: Cluster) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(crd.render().values()))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/modelroutes.pointsman.dev")


class Maps:
    """ConfigMaps of one namespace, written directly."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"

    async def put(self, name: str, value: str, **labels: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"test": "yes", **labels}},
            "data": {"v": value},
        }
        try:
            await self._connection.request("PUT", f"{self._path}/{name}", body=body)
        except NotFound:
            await self._connection.request("POST", self._path, body=body)

    async def delete(self, name: str) -> None:
        await self._connection.request("DELETE", f"{self._path}/{name}")


class Watched:
    """A running reflector of the ConfigMaps with our label, and what it was told."""

    def __init__(self, connection: Connection, namespace: str, **options: Any) -> None:
        self.told: list[dict[str, str]] = []
        selection = Selection("", "v1", "configmaps", namespace, labels="test=yes")
        self.reflector = Reflector(connection, selection, self._changed, last_backoff=0.5, **options)

    def _changed(self, items: Items) -> None:
        self.told.append(self._values(items))

    @property
    def values(self) -> dict[str, str]:
        return self._values(self.reflector.items)

    @staticmethod
    def _values(items: Items) -> dict[str, str]:
        return {name: body["data"]["v"] for name, body in items.items()}


@pytest.fixture
async def direct(control_plane: Cluster) -> AsyncIterator[Connection]:
    async with await connect(str(control_plane.kubeconfig)) as connection:
        yield connection


@pytest.fixture
async def proxy(direct: Connection) -> AsyncIterator[TcpProxy]:
    server = urlsplit(direct.server)
    async with TcpProxy(server.hostname or "", server.port or 443) as proxy:
        yield proxy


@asynccontextmanager
async def watching(direct: Connection, proxy: TcpProxy, namespace: str, **options: Any) -> AsyncIterator[Watched]:
    through = replace(direct, server=f"https://127.0.0.1:{proxy.port}", session=direct.open_session(0))
    watched = Watched(through, namespace, **options)
    task = asyncio.create_task(watched.reflector.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await through.close()


async def test_cache_follows_what_is_made_changed_and_deleted(
    direct: Connection, proxy: TcpProxy, namespace: str
) -> None:
    maps = Maps(direct, namespace)
    await maps.put("a", "1")
    await maps.put("other", "1", test="no")
    async with watching(direct, proxy, namespace) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        assert watched.values == {"a": "1"}
        await maps.put("b", "1")
        await maps.put("a", "2")
        await until(lambda: watched.values == {"a": "2", "b": "1"})
        await maps.delete("a")
        await until(lambda: watched.values == {"b": "1"})
        await maps.put("b", "1", test="no")
        await until(lambda: watched.values == {})
        assert watched.reflector.lists == 1


async def test_only_what_is_wanted_of_an_object_is_kept(direct: Connection, proxy: TcpProxy, namespace: str) -> None:
    maps = Maps(direct, namespace)
    await maps.put("listed", "1")
    async with watching(direct, proxy, namespace, keep=lambda body: {"data": body["data"]}) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        await maps.put("watched", "2")
        await until(lambda: "watched" in watched.values)
        assert watched.reflector.items == {"listed": {"data": {"v": "1"}}, "watched": {"data": {"v": "2"}}}


async def test_a_cut_watch_goes_on_where_it_was(direct: Connection, proxy: TcpProxy, namespace: str) -> None:
    maps = Maps(direct, namespace)
    async with watching(direct, proxy, namespace) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        for round_ in range(5):
            await maps.put(f"before-{round_}", "1")
            proxy.cut()
            await maps.put(f"after-{round_}", "1")
            await until(lambda n=round_: len(watched.values) == 2 * (n + 1))
        assert watched.reflector.lists == 1


async def test_nothing_is_lost_while_the_api_server_is_away(
    direct: Connection, proxy: TcpProxy, namespace: str
) -> None:
    maps = Maps(direct, namespace)
    await maps.put("gone", "1")
    await maps.put("kept", "1")
    async with watching(direct, proxy, namespace) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        await proxy.close()
        await maps.delete("gone")
        await maps.put("new", "1")
        await asyncio.sleep(1.0)
        assert watched.values == {"gone": "1", "kept": "1"}
        await proxy.open()
        await until(lambda: watched.values == {"kept": "1", "new": "1"})


async def test_an_api_server_away_at_the_start_is_waited_for(
    direct: Connection, proxy: TcpProxy, namespace: str
) -> None:
    await proxy.close()
    await Maps(direct, namespace).put("a", "1")
    async with watching(direct, proxy, namespace) as watched:
        await asyncio.wait_for(watched.reflector.attempted.wait(), 30)
        assert not watched.reflector.synced.is_set()
        assert watched.told == []
        await proxy.open()
        await until(lambda: watched.values == {"a": "1"})


async def test_a_watch_that_is_too_old_is_listed_again(
    direct: Connection, proxy: TcpProxy, namespace: str, crds: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server remembers only so much. Of a kind that was defined after its start it never knew revision 1."""
    routes = f"/apis/pointsman.dev/v1alpha1/namespaces/{namespace}/modelroutes"

    async def make(name: str) -> None:
        spec = {"models": [name], "targets": [{"backend": "b", "model": "m"}]}
        body = {
            "apiVersion": "pointsman.dev/v1alpha1",
            "kind": "ModelRoute",
            "metadata": {"name": name},
            "spec": spec,
        }
        await direct.request("POST", routes, body=body)

    await make("gone")
    async with watching(direct, proxy, namespace) as watched:
        reflector = watched.reflector
        reflector._on_change = lambda _: None
        reflector._selection = Selection("pointsman.dev", "v1alpha1", "modelroutes", namespace)
        await asyncio.wait_for(reflector.synced.wait(), 30)
        await proxy.close()
        await direct.request("DELETE", f"{routes}/gone")
        await make("new")
        reflector._version = "1"
        with caplog.at_level("INFO"):
            await proxy.open()
            await until(lambda: list(reflector.items) == ["new"])
        assert "the watch is too old" in caplog.text
        assert reflector.lists == 2


async def test_a_silent_connection_is_given_up(direct: Connection, proxy: TcpProxy, namespace: str) -> None:
    maps = Maps(direct, namespace)
    async with watching(direct, proxy, namespace, silence=1.0) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        proxy.silent = True
        await maps.put("a", "1")
        await asyncio.sleep(0.3)
        assert watched.values == {}
        before = proxy.accepted
        await until(lambda: proxy.accepted > before)
        proxy.silent = False
        proxy.cut()
        await until(lambda: watched.values == {"a": "1"})


async def test_a_quiet_watch_is_opened_again_without_a_word(
    direct: Connection, proxy: TcpProxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    maps = Maps(direct, namespace)
    async with watching(direct, proxy, namespace, silence=0.5) as watched:
        await asyncio.wait_for(watched.reflector.synced.wait(), 30)
        before = proxy.accepted
        await until(lambda: proxy.accepted >= before + 2)
        await maps.put("a", "1")
        await until(lambda: watched.values == {"a": "1"})
        assert watched.reflector.lists == 1
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


async def test_a_list_that_is_cut_is_begun_again_whole(direct: Connection, proxy: TcpProxy, namespace: str) -> None:
    maps = Maps(direct, namespace)
    await asyncio.gather(*(maps.put(f"m-{i}", "x" * 2000) for i in range(40)))
    proxy.cut_after = 30_000
    async with watching(direct, proxy, namespace) as watched:
        await until(lambda: len(watched.values) == 40)
        assert len(watched.told[0]) == 40
        assert watched.reflector.lists == 1


async def test_a_kind_that_does_not_exist_yet_is_waited_for(
    direct: Connection, proxy: TcpProxy, namespace: str
) -> None:
    async with watching(direct, proxy, namespace) as watched:
        watched.reflector._selection = Selection("pointsman.dev", "v9", "things", namespace)
        await asyncio.wait_for(watched.reflector.attempted.wait(), 30)
        assert not watched.reflector.synced.is_set()
