"""`pointsman gateway` in a cluster: the process, its start line, its report, an API server that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import yaml
from tests.cluster.cluster import Cluster
from tests.support.engine import until
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.namespace import Namespace, crds_fixture, fill, proxy_fixture, space_fixture
from tests.support.tcp_proxy import TcpProxy

from pointsman.domain.report import GatewayReport, decode

__all__ = ["crds_fixture", "proxy_fixture", "space_fixture"]


async def status(gateway: GatewayProcess, path: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as http, http.get(gateway.admin + path, headers=headers) as answer:
        return answer.status


async def first_report(gateway: GatewayProcess, token: str) -> GatewayReport:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.admin}/v1/report", headers=headers) as answer:
        report = decode((await answer.content.readline()).removeprefix(b"data: "))
    assert isinstance(report, GatewayReport)
    return report


def through(cluster: Cluster, proxy: TcpProxy, folder: Path) -> Path:
    """A kubeconfig whose way to the API server is the proxy."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for entry in config["clusters"]:
        entry["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_it_serves_its_namespace_and_survives_the_api_server(
    control_plane: Cluster, space: Namespace, proxy: TcpProxy, tmp_path: Path
) -> None:
    await fill(space)
    state = tmp_path / "state"
    state.mkdir()
    arguments = ["--kubeconfig", str(through(control_plane, proxy, tmp_path)), "-n", space.name]
    arguments += ["--state-dir", str(state), "--host", "127.0.0.1"]
    async with gateway_process(None, *arguments, POINTSMAN_REPORT_TOKEN="t-1", POD_NAME="gw-0") as gateway:
        assert any("2 backends, 1 route" in line for line in gateway.log)
        assert await status(gateway, "/readyz") == 200
        assert await status(gateway, "/v1/report") == 401
        report = await first_report(gateway, "t-1")
        assert (report.gateway, [b.name for b in report.backends]) == ("gw-0", ["hosted", "local"])
        await proxy.close()
        await asyncio.sleep(0.5)
        assert await status(gateway, "/readyz") == 200
        await until(lambda: (state / "table.json").exists())
    async with gateway_process(None, *arguments, POINTSMAN_REPORT_TOKEN="t-1") as gateway:
        assert any("2 backends, 1 route" in line for line in gateway.log), "from the saved table"
        assert await status(gateway, "/readyz") == 200


async def test_without_an_api_server_and_a_saved_table_it_is_alive_and_unready(
    control_plane: Cluster, space: Namespace, proxy: TcpProxy, tmp_path: Path
) -> None:
    kubeconfig = through(control_plane, proxy, tmp_path)
    await proxy.close()
    arguments = ("--kubeconfig", str(kubeconfig), "-n", space.name, "--host", "127.0.0.1")
    async with gateway_process(None, *arguments, "--admin-port", "0", wait=False) as gateway:
        found = await until(
            lambda: next((line for line in gateway.log if "waiting for the resources" in line), None), 60
        )
        assert space.name in found
        assert any("the report is closed to everybody" in line for line in gateway.log)
        await proxy.open()
        await gateway.listening()
        assert await status(gateway, "/readyz") == 200
        assert await status(gateway, "/v1/report") == 401
