"""What a pull tells while it runs, to whom, and what it leaves behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.models.helpers import MIB, finish, start_command, until
from tests.support.ports import free_port
from tests.support.registry import TinyRegistry

from pointsman.domain.report import PullProgress, PullReport, decode
from pointsman.models import report as reporting
from pointsman.models.main import HOLD_SECONDS
from pointsman.models.outcome import decode_outcome
from pointsman.models.report import ReportServer

TOKEN = "a-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


async def reports(url: str) -> AsyncIterator[PullReport]:
    """The snapshots of one subscription; tries to connect until the server is there."""
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            try:
                async with client.stream("GET", url, headers=HEADERS) as response:
                    assert response.headers["content-type"] == "text/event-stream"
                    async for line in response.aiter_lines():
                        if line:
                            report = decode(line.removeprefix("data: "))
                            assert isinstance(report, PullReport)
                            yield report
                    return
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


async def test_a_subscriber_sees_the_whole_pull_and_its_end(tree: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "termination-log"
    with TinyRegistry(tree, rate=10 * MIB) as registry:
        process = await start_command(
            registry, tmp_path / "store", "--report-port", str(port), "--report-host", "127.0.0.1",
            "--termination-log", str(log), POINTSMAN_REPORT_TOKEN=TOKEN,
        )  # fmt: skip
        began = time.monotonic()
        seen = [report async for report in reports(f"http://127.0.0.1:{port}/v1/report")]
        ended = time.monotonic()
        code, output = await finish(process)
    assert code == 0, output
    assert time.monotonic() - ended < HOLD_SECONDS  # not held once it was read
    states = [report.progress.state for report in seen]
    assert states[0] == "Pulling"
    assert states[-1] == "Pulled"
    assert set(states) <= {"Pulling", "Verifying", "Pulled"}
    last = seen[-1].progress
    assert last.completed_bytes == last.total_bytes > 24 * MIB
    assert [r.progress.completed_bytes for r in seen] == sorted(r.progress.completed_bytes for r in seen)
    assert any(r.progress.bytes_per_second > MIB and r.progress.eta_seconds is not None for r in seen)
    assert len(seen) <= ended - began + 5  # figures at most each second
    outcome = decode_outcome(log.read_bytes())
    assert (outcome.state, outcome.digest, outcome.total_bytes) == ("Pulled", last.digest, last.total_bytes)
    assert outcome.served_name == f"pointsman/noise:{last.digest.replace(':', '-')}"


async def test_a_failure_is_reported_logged_and_left_as_exit_code(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.manifest_status = 404
    port, log, token_file = free_port(), tmp_path / "termination-log", tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    process = await start_command(
        registry, tmp_path / "store", "--report-port", str(port), "--termination-log", str(log),
        POINTSMAN_REPORT_TOKEN_FILE=str(token_file),
    )  # fmt: skip
    seen = [report async for report in reports(f"http://127.0.0.1:{port}/v1/report")]
    code, output = await finish(process)
    assert code == 22
    assert (seen[-1].progress.state, seen[-1].progress.reason) == ("Failed", "UnknownModel")
    outcome = decode_outcome(log.read_bytes())
    assert (outcome.state, outcome.reason, outcome.exit_code, outcome.permanent) == ("Failed", "UnknownModel", 22, True)
    assert "check the name" in outcome.message
    assert TOKEN not in output


async def test_no_report_without_a_token(registry: TinyRegistry, tmp_path: Path) -> None:
    code, output = await finish(await start_command(registry, tmp_path, "--report-port", str(free_port())))
    assert code == 21
    assert "POINTSMAN_REPORT_TOKEN" in output


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
async def test_only_the_bearer_of_the_token_may_read(header: dict[str, str]) -> None:
    async with ReportServer("ollama://a", TOKEN, host="127.0.0.1") as server, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.port}"
        refused = await client.get(f"{url}/v1/report", headers=header)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get(f"{url}/healthz")).status_code == 200


async def test_a_change_is_told_at_once_and_figures_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "FIGURES_SECONDS", 3.0)
    async with ReportServer("ollama://a", TOKEN, host="127.0.0.1") as server:
        stream = reports(f"http://127.0.0.1:{server.port}/v1/report")
        assert (await anext(stream)).progress.state == "Pulling"
        began = time.monotonic()
        await server.publish(PullProgress(state="Pulling", total_bytes=100))
        assert (await anext(stream)).progress.total_bytes == 100
        assert time.monotonic() - began < 2.5
        began = time.monotonic()
        for completed in range(1, 50):
            await server.publish(PullProgress(state="Pulling", total_bytes=100, completed_bytes=completed))
        assert (await anext(stream)).progress.completed_bytes == 49
        assert time.monotonic() - began > 2.5
        await server.publish(PullProgress(state="Pulled", total_bytes=100, completed_bytes=100), final=True)
        assert await server.settle(60)
        assert [report.progress.state async for report in stream] == ["Pulled"]


async def test_a_final_report_that_nobody_reads_is_held_only_so_long() -> None:
    async with ReportServer("ollama://a", TOKEN, host="127.0.0.1") as server:
        await server.publish(PullProgress(state="Pulled"), final=True)
        assert not await server.settle(0.2)


async def test_a_stop_while_the_end_is_held_keeps_the_result(registry: TinyRegistry, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    process = await start_command(
        registry, tmp_path / "store", "--report-port", str(free_port()), "--termination-log", str(log),
        POINTSMAN_REPORT_TOKEN=TOKEN,
    )  # fmt: skip
    await until(lambda: log.exists() and log.stat().st_size > 0)
    began = time.monotonic()
    process.terminate()
    code, output = await finish(process)
    assert code == 0, output
    assert time.monotonic() - began < HOLD_SECONDS
    assert decode_outcome(log.read_bytes()).state == "Pulled"
