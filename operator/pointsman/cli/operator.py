"""`pointsman operator`: the process in the cluster that turns resources into children and children into conditions."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import click
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pointsman.cli import logs
from pointsman.controllers.operator import Operator, name_visit
from pointsman.controllers.settings import BadSettings, Settings, load
from pointsman.kube.connect import NoCluster, connect
from pointsman.kube.watch import is_noise


@click.command("operator", short_help="Looks after the resources of a cluster.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings (YAML).")
@click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Cluster to use; the pod's own by default.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--namespace", "namespaces", multiple=True, help="Look after this namespace only; repeatable.")
@click.option("--health-host", help="Address of the health port; all by default.")
@click.option("--health-port", type=click.IntRange(0, 65535), default=8081, show_default=True,
              help="Serves /healthz, /readyz and /metrics; 0: do not.")  # fmt: skip
@click.option("--pod-uid", envvar="POD_UID", default="",
              help="UID of its pod: started again in it, an operator goes on with its lease.")  # fmt: skip
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="json", show_default=True)
def operator(
    config: Path | None,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    health_host: str | None,
    health_port: int,
    pod_uid: str,
    log_level: str,
    log_format: logs.Format,
) -> None:
    """Look after LLMBackends and ModelRoutes.

    Exit codes: 0 asked to end; 1 no cluster or bad settings; 3 the lease was lost.
    """
    logs.setup(log_level, log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(name_visit)
        handler.addFilter(lambda record: not is_noise(record))
    logging.getLogger("kopf").setLevel(logging.ERROR)
    try:
        settings = load(config)
        code = asyncio.run(_run(settings, kubeconfig, context, namespaces, pod_uid, health_host, health_port))
    except (BadSettings, NoCluster) as error:
        raise click.ClickException(str(error)) from error
    # What is left (a watch in kopf's thread) must not hold up the end: whoever lost the lease may not write again.
    logging.shutdown()
    os._exit(code)


async def _run(
    settings: Settings,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    pod_uid: str,
    host: str | None,
    port: int,
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await connect(kubeconfig, context) as connection:
        process = Operator(connection, settings, namespaces, pod_uid)
        runner = await _serve(process, host, port) if port else None
        try:
            return await process.run(stop)
        finally:
            if runner is not None:
                await runner.cleanup()


async def _serve(process: Operator, host: str | None, port: int) -> web.AppRunner:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if process.ready else web.Response(status=503, text="starting\n")

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(process.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
