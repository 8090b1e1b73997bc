"""The whole run: everything comes, rests, changes, is restarted, killed, cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from tests.cluster.cluster import Cluster
from tests.operator import paper
from tests.operator.bench import SETTINGS
from tests.operator.hands import change
from tests.operator.installed import install, kubeconfig_of_operator, make_namespace
from tests.operator.paper import PaperNode
from tests.operator.process import OperatorProcess
from tests.operator.worker import address, token_of
from tests.scale import clocks
from tests.scale.clocks import Seen, Times
from tests.scale.kubelet import ROOM, Kubelet
from tests.scale.world import Server, Size, create, hosted, objects
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.tcp_proxy import TcpProxy, through

from pointsman.controllers.settings import GatewaySettings
from pointsman.kube.client import WRITES, Client
from pointsman.kube.connect import Connection, connect
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, ROUTES, SERVICES, name_of, uid_of

CHANGES = 100
"""Of each sort, one after the other."""
CHANGED_MEANWHILE = 20
"""Of each sort, while the API server is away."""
START_SECONDS = 900.0
"""For everything to be Ready."""
_ASK_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_STATUS = "apply_status"
_LEASE = "replace"
"""The verb that only the lease uses, once for each of its `get`s."""


@dataclass(frozen=True)
class Lengths:
    """Seconds of what takes as long as one likes."""

    idle: float = 60
    outage: float = 300


@dataclass(frozen=True)
class Cost:
    """Of a process that has nothing to do."""

    mb: float
    """Resident."""
    peak_mb: float
    cpu_percent: float
    """Of one core."""


@dataclass(frozen=True)
class Outage:
    caught_up: float
    """From the API server's return until all that was changed meanwhile is carried out."""
    restarts: int
    """Of the operator, which ends when it cannot renew its lease."""
    asked: int
    """Requests to the gateway meanwhile."""
    failed: int


@dataclass(frozen=True)
class Outcome:
    size: Size
    lengths: Lengths
    handled: float
    """From the operator's start until it has seen everything, and made all children."""
    ready: float
    """From the operator's start until every backend and route is Ready."""
    operator: Cost
    gateway: Cost
    idle_calls: float
    """Calls of the API server in a second, but for the lease's and watches."""
    specs: Times
    drift: Times
    routed: Times
    restart: float
    """From the start of the next operator until it has visited everything."""
    restart_writes: int
    """To children, and Events; latencies, in statuses, change all the time."""
    crash: float
    """From the kill of the leader until the other has carried out a change."""
    outage: Outage


async def run(cluster: Cluster, size: Size, lengths: Lengths, folder: Path, namespace: str) -> Outcome:
    """Raises `TimeoutError` when something does not come."""
    install(cluster)
    settings = SETTINGS.model_copy(update={"gateway": GatewaySettings(replicas=1)})
    rights = kubeconfig_of_operator(cluster, folder)
    numbers = iter(range(1000))

    def operator(kubeconfig: Path = rights, pod_uid: str = "") -> OperatorProcess:
        own = folder / f"operator-{next(numbers)}"
        own.mkdir()
        return OperatorProcess(kubeconfig, own, namespace, settings=settings, log_level="info", pod_uid=pod_uid)

    async with AsyncExitStack() as stack:
        stack.enter_context(PaperNode(str(cluster.kubeconfig), extended=ROOM))
        api = await stack.enter_async_context(await connect(str(cluster.kubeconfig)))
        server = await stack.enter_async_context(Server(cluster.host_ip))
        where = urlsplit(api.server)
        proxy = await stack.enter_async_context(TcpProxy(where.hostname or "", where.port or 443))
        await make_namespace(api, namespace)
        stack.push_async_callback(api.request, "DELETE", f"/api/v1/namespaces/{namespace}")
        kubelet = await stack.enter_async_context(Kubelet(api, namespace, cluster.host_ip))
        _say(f"creating {size.backends} backends and {size.routes} routes")
        await create(api, objects(size, namespace, server.url))
        backends = await stack.enter_async_context(Seen(api, namespace, BACKENDS))
        routes = await stack.enter_async_context(Seen(api, namespace, ROUTES))

        async with operator() as leader:
            began = time.monotonic()
            gateway_kubeconfig = through(proxy, cluster.kubeconfig, folder)
            gateway = await stack.enter_async_context(a_gateway(api, kubelet, gateway_kubeconfig, namespace))
            await backends.until(clocks.handled, START_SECONDS)
            await routes.until(clocks.handled, START_SECONDS)
            async with Seen(api, namespace, DEPLOYMENTS) as made, Seen(api, namespace, SERVICES) as too:
                for seen in (made, too):
                    await seen.until(lambda items: all(f"pmb-{n}" in items for n in size.local), START_SECONDS)
            handled = time.monotonic() - began
            _say(f"all seen after {handled:.1f} s")
            try:
                await backends.until(clocks.ready, START_SECONDS)
                await routes.until(clocks.ready, START_SECONDS)
            except TimeoutError:
                left = [*clocks.unready(backends.items), *clocks.unready(routes.items)]
                raise TimeoutError(f"{len(left)} are not Ready, {left[:3]} among them") from None
            ready = time.monotonic() - began
            _say(f"all Ready after {ready:.1f} s")
            await at_rest(leader)
            idle_calls, costs = await idle(leader, lengths.idle, leader.process.pid, gateway.pid)
            _say(f"at rest: {idle_calls:.2f} calls/s, {costs}")
            some = size.local[:CHANGES]
            specs = clocks.times(await clocks.specs(api, namespace, some))
            _say(f"specs: {specs}")
            drift = clocks.times(await clocks.drift(api, namespace, some))
            _say(f"drift: {drift}")
            routed = clocks.times(await clocks.routed(api, namespace, size.named[:CHANGES], gateway.url))
            _say(f"routed: {routed}")
            await at_rest(leader)

        began = time.monotonic()
        async with operator() as leader:
            await visited(leader, size)
            restart = time.monotonic() - began
            await at_rest(leader)
            calls = await leader.calls()
            restart_writes = int(sum(calls.get(v, 0) for v in WRITES - {_LEASE, _STATUS}))
            _say(f"restarted in {restart:.1f} s, {restart_writes} writes: {calls}")
            async with operator() as other:

                async def stands_by() -> bool:
                    return (await other.metrics()).get("pointsman_operator_leader") == 0.0

                await clocks.soon(stands_by, "the second operator stands by")
                leader.process.kill()
                began = time.monotonic()
                await clocks.specs(api, namespace, size.local[-1:])
                crash = time.monotonic() - began
                _say(f"after a crash: {crash:.1f} s")
                await visited(other, size)
                await at_rest(other)

        async with supervised(lambda: operator(through(proxy, rights, folder), "one-pod")) as keeper:
            await clocks.soon(keeper.leads, "the operator leads")
            await visited(keeper.operator, size)
            await at_rest(keeper.operator)
            outage = await cut_off(api, namespace, size, server, gateway, proxy, keeper, lengths.outage)
            _say(f"{outage}")
    return Outcome(
        size, lengths, handled, ready, costs[0], costs[1], idle_calls, specs, drift, routed, restart, restart_writes,
        crash, outage,
    )  # fmt: skip


@asynccontextmanager
async def a_gateway(
    api: Connection, kubelet: Kubelet, kubeconfig: Path, namespace: str
) -> AsyncIterator[GatewayProcess]:
    """A real process at the address of the gateway's pod on paper."""

    async def placed() -> bool:
        return bool(kubelet.gateways) and await token_of(api, namespace) is not None

    await clocks.soon(placed, "a gateway's pod has a node", START_SECONDS)
    (pod,) = kubelet.gateways.values()
    at, token = address(), await token_of(api, namespace)
    arguments = ["--kubeconfig", str(kubeconfig), "-n", namespace, "--host", "127.0.0.1"]
    arguments += ["--admin-host", at, "--admin-port", "9090"]
    async with gateway_process(None, *arguments, POINTSMAN_REPORT_TOKEN=token or "", POD_NAME=name_of(pod)) as gateway:
        await paper.run(api, pod, at)
        yield gateway


async def visited(operator: OperatorProcess, size: Size) -> None:
    """It leads, and has reconciled as many objects as there are."""
    wanted = {"LLMBackend": size.backends, "ModelRoute": size.routes}

    async def done() -> bool:
        figures = await operator.metrics()
        by_kind = dict.fromkeys(wanted, 0.0)
        for name, value in figures.items():
            if name.startswith("pointsman_operator_reconciles_total"):
                for kind in wanted:
                    by_kind[kind] += value if f'kind="{kind}"' in name else 0
        return all(by_kind[k] >= n for k, n in wanted.items()) and not figures["pointsman_operator_queue_depth"]

    await clocks.soon(done, "every object is visited", START_SECONDS)


async def at_rest(operator: OperatorProcess) -> None:
    """Nothing is due, and nothing was called for three renewals of the lease but for them and for statuses: latencies
    are written slowly, for as long as they change."""

    async def other_calls() -> tuple[float, float]:
        figures, calls = await operator.metrics(), await operator.calls()
        renewals = calls.get(_LEASE, 0)
        others = sum(calls.values()) - calls.get(_STATUS, 0) - 2 * renewals
        return others + figures["pointsman_operator_queue_depth"], renewals

    until = time.monotonic() + START_SECONDS
    others, renewals = await other_calls()
    while time.monotonic() < until:
        await asyncio.sleep(1.0)
        now, count = await other_calls()
        if now > others + 1:  # a `get` of the lease may be there before its `replace`
            others, renewals = now, count
        elif count >= renewals + 3:
            return
    raise TimeoutError("the operator does not come to rest")


async def idle(operator: OperatorProcess, length: float, *pids: int) -> tuple[float, list[Cost]]:
    """Its calls a second, and what the processes cost meanwhile."""
    before, cpu = await operator.calls(), [_cpu(pid) for pid in pids]
    began = time.monotonic()
    await asyncio.sleep(length)
    seconds, after = time.monotonic() - began, await operator.calls()
    calls = sum(after.values()) - sum(before.values()) - 2 * (after.get(_LEASE, 0) - before.get(_LEASE, 0))
    costs = [
        Cost(_status_mb(pid, "VmRSS:"), _status_mb(pid, "VmHWM:"), 100 * (_cpu(pid) - used) / seconds)
        for pid, used in zip(pids, cpu, strict=True)
    ]
    return max(0.0, calls) / seconds, costs


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Keeper:
    """Starts an operator again in its pod when it has ended, as a kubelet does."""

    def __init__(self, start: Callable[[], OperatorProcess]) -> None:
        self._start = start
        self.operator = start()
        self.restarts = 0

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self.operator.process.wait)
            self.restarts += 1
            self.operator = self._start()

    async def leads(self) -> bool:
        return self.operator.process.poll() is None and await self.operator.leads()


@asynccontextmanager
async def supervised(start: Callable[[], OperatorProcess]) -> AsyncIterator[Keeper]:
    keeper = Keeper(start)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        keeper.operator.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(keeper.operator.process.wait, 60)


async def cut_off(
    api: Connection, namespace: str, size: Size, server: Server, gateway: GatewayProcess, proxy: TcpProxy,
    keeper: Keeper, seconds: float,
) -> Outage:  # fmt: skip
    """The API server goes away from operator and gateway; meanwhile others change what is there."""
    client, some = Client(api), size.local[:CHANGED_MEANWHILE]
    new = [f"new-{n}" for n in range(CHANGED_MEANWHILE)]
    asked = failed = 0
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal asked, failed
        async with aiohttp.ClientSession() as http:
            while not stop.is_set():
                model = size.named[asked % len(size.named)]
                body = {"model": model, "messages": [{"role": "user", "content": "there?"}]}
                asked += 1
                async with http.post(f"{gateway.url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    failed += answer.status != 200
                await asyncio.sleep(_ASK_SECONDS)

    async with Seen(api, namespace, DEPLOYMENTS) as deployments, Seen(api, namespace, SERVICES) as services:
        asking = asyncio.create_task(ask())
        await proxy.close()
        away = time.monotonic()
        uids = {}
        templates = {}
        for n, name in enumerate(some):
            child = f"pmb-{name}"
            uids[child] = uid_of(services.items[child])
            templates[child] = deployments.items[child]["spec"]["template"]
            await client.delete(SERVICES, namespace, child, uid=uids[child])
            await change(
                api, BACKENDS, namespace, name, {"spec": {"resources": {"requests": {"memory": f"{300 + n}Mi"}}}}
            )
        await create(api, [hosted(name, namespace, server.url) for name in new])
        await asyncio.sleep(max(0.0, away + seconds - time.monotonic()))
        await proxy.open()
        began = time.monotonic()
        async with Seen(api, namespace, BACKENDS) as backends:
            waits: list[Awaitable[None]] = [
                services.until(lambda items: all(c in items and uid_of(items[c]) != u for c, u in uids.items())),
                deployments.until(lambda items: all(items[c]["spec"]["template"] != t for c, t in templates.items())),
                backends.until(lambda items: clocks.handled({n: items[n] for n in new})),
                backends.until(lambda items: clocks.ready({n: items[n] for n in new})),
            ]
            for wait in waits:
                await wait
        caught_up = time.monotonic() - began
        stop.set()
        await asking
    return Outage(caught_up, keeper.restarts, asked, failed)


def _say(line: str) -> None:
    print(line, flush=True)
