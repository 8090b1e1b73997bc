"""One gateway process, put together: source of the table, prober, data path, admin port, and its end.

Decided here: the order of starting and stopping. Nothing else.

Stopping (SIGTERM): unready at once; after `drain_delay` seconds, when load balancers have noticed, no more connections
are accepted and answers carry `Connection: close`; requests in flight are waited for, up to the longest
`timeouts.total` of the routes; then the end. SIGINT does the same without the delay. A second signal ends at once.
SIGHUP reads the manifests again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from pointsman.domain.proxies import read_proxies
from pointsman.gateway.admin import Admin
from pointsman.gateway.front.server import Server
from pointsman.gateway.insight.access import AccessLog
from pointsman.gateway.insight.events import Event, TableChanged
from pointsman.gateway.insight.metrics import GatewayMeter, registry_of
from pointsman.gateway.insight.reporting import Reports
from pointsman.gateway.probes.prober import Prober
from pointsman.gateway.relay.datapath import DataPath
from pointsman.gateway.sources.cluster import ClusterSource
from pointsman.gateway.sources.discovery import Discovery, Places, sentence
from pointsman.gateway.sources.files import FileSource
from pointsman.gateway.sources.kept import Keeper
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState
from pointsman.kube.connect import connect

_log = logging.getLogger(__name__)

LEAST_DRAIN_SECONDS = 10.0
SAME_SIGNAL_SECONDS = 0.5
GC_THRESHOLDS = (20_000, 20, 20)
"""A request leaves nothing for the garbage collector: it need not look as often as Python thinks."""
SWITCH_SECONDS = 0.001
"""How long a thread (a large table being compiled, a name being looked up) may keep requests waiting."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    name: str
    """Of this gateway, in its report."""
    host: str | None
    """None: every interface."""
    port: int
    admin_host: str | None
    admin_port: int
    manifests: Path | None
    """The directory of standalone mode."""
    discover: Places | None = None
    """Where to look for servers; without it and without `manifests`: the cluster."""
    kubeconfig: str | None = None
    namespace: str | None = None
    state_dir: Path | None = None
    report_token: str | None = None
    drain_delay: float = 5.0
    access_log: bool = False


@dataclass(frozen=True)
class Started:
    """For the line that says so."""

    host: str | None
    port: int
    admin_host: str | None
    admin_port: int
    backends: int
    routes: int


def run(options: Options, started: Callable[[Started], None]) -> None:
    """Runs until a signal; calls `started` when it listens and has a table.

    Raises `ManifestError`, `NoCluster` and `OSError` when it cannot start.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, started))


async def _serve(options: Options, started: Callable[[Started], None]) -> None:
    loop = asyncio.get_running_loop()
    stop: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.put_nowait, number)
    meter = GatewayMeter()
    state = GatewayState(options.name, meter=meter)
    async with contextlib.AsyncExitStack() as stack:
        status = await stack.enter_async_context(_source(options, state))
        if options.access_log:
            log = AccessLog(loop)
            state.access_log = log.write
            stack.callback(log.flush)
        proxies = read_proxies(os.environ)
        prober = Prober(state, proxies=proxies)
        await prober.start()
        stack.push_async_callback(prober.close)
        admin = Admin(state, status, registry_of(meter, state, status), Reports(state), token=options.report_token)
        await admin.start(options.admin_host, options.admin_port)
        stack.push_async_callback(admin.close)
        server = Server(DataPath(state, proxies=proxies))
        stack.push_async_callback(server.close)
        port = await server.listen(options.host, options.port)
        addresses = (options.host, port, options.admin_host, admin.port)
        _when_loaded(
            state, status, lambda: started(Started(*addresses, len(state.table.backends), len(state.table.routes)))
        )
        number = await stop.get()
        admin.draining = True
        await _until_signal(stop, _drain(server, state, options.drain_delay if number == signal.SIGTERM else 0.0))
    _log.info("stopped")


def _when_loaded(state: GatewayState, status: SourceStatus, say: Callable[[], None]) -> None:
    """Calls `say` once there is a table."""
    if status.loaded:
        return say()
    _log.info("waiting for the resources of namespace %s", status.place)

    def first(event: Event) -> None:
        if isinstance(event, TableChanged):
            unsubscribe()
            say()

    unsubscribe = state.subscribe(first)
    return None


async def _drain(server: Server, state: GatewayState, delay: float) -> None:
    _log.info("stopping: unready now, no more connections in %g s", delay)
    server.leave()
    await asyncio.sleep(delay)
    patience = max([LEAST_DRAIN_SECONDS, *(route.timeouts.total for route in state.table.routes.values())])
    if not await server.drain(patience):
        _log.warning("requests were still in flight after %g s: they are cut", patience)


async def _until_signal(stop: asyncio.Queue[signal.Signals], work: Coroutine[object, object, None]) -> None:
    """Does `work`, unless a further signal comes first. One that follows at once is the same one: a terminal and a
    wrapper such as `uv run` may both send it."""

    async def again() -> None:
        await asyncio.sleep(SAME_SIGNAL_SECONDS)
        while not stop.empty():
            stop.get_nowait()
        await stop.get()

    tasks = [asyncio.create_task(work), asyncio.create_task(again())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _source(options: Options, state: GatewayState) -> AsyncIterator[SourceStatus]:
    """Whoever keeps the table, running. Raises `ManifestError` and `NoCluster`."""
    loop = asyncio.get_running_loop()
    if options.manifests is not None or options.discover is not None:
        async with _standalone(options, state) as status:
            yield status
        return
    async with await connect(options.kubeconfig) as connection:
        namespace = options.namespace or connection.namespace
        status = SourceStatus("cluster", namespace)
        cluster = ClusterSource(connection, namespace, state, status, state_dir=options.state_dir)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        async with _running(cluster.run(), "following the cluster"):
            yield status


@asynccontextmanager
async def _standalone(options: Options, state: GatewayState) -> AsyncIterator[SourceStatus]:
    """Manifests, discovery or both, and what the process before has left. Raises `ManifestError`."""
    directory, places = options.manifests, options.discover
    looked = ", ".join(places.hosts) if places else ""
    if directory is None:
        status = SourceStatus("discovery", looked)
    else:
        status = SourceStatus("manifests", f"{directory} and {looked}" if looked else str(directory))
    keeper = Keeper(options.state_dir, state) if options.state_dir else None
    discovery = Discovery(places, known=keeper.sightings() if keeper else ()) if places else None
    if discovery is not None:
        await discovery.look()
        _log.info(sentence(discovery.findings, discovery.places))
    files = FileSource(directory, state, status, discovery.extend if discovery else None)
    files.load()
    again = [files.reload, *([discovery.soon] if discovery else [])]
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: [ask() for ask in again])
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_running(files.run(), "following the manifests"))
        if discovery is not None:
            await stack.enter_async_context(_running(discovery.run(files.reload), "looking for servers"))
        if keeper is not None:
            keeper.restore()
            stack.callback(keeper.write)
            await stack.enter_async_context(_running(keeper.run(discovery), "keeping the state"))
        yield status


@asynccontextmanager
async def _running(work: Coroutine[object, object, None], what: str) -> AsyncIterator[None]:
    """`work` as a task while the block runs. It should not end by itself; if it does, traffic goes on and the log says
    so."""

    def tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            _log.critical("%s ended: restart the gateway to have it back", what, exc_info=task.exception())

    task = asyncio.create_task(work)
    task.add_done_callback(tell)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
