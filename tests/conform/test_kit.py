"""The conformance kit: our own gateway passes every scenario, and a bad gateway does not."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from tests.conform.naive_gateway import NaiveGateway
from tests.conform.standing import NAMES, SECONDS, manifests
from tests.support.gateway_process import gateway_process
from tests.support.ports import free_port

from pointsman.cli.conform import Options, run
from pointsman.cli.main import main
from pointsman.conform.catalogue import SCENARIOS, chosen
from pointsman.conform.option_scenarios import OPTIONS
from pointsman.conform.result import Outcome


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


async def conform(*arguments: str) -> tuple[int, str, str]:
    """The command as a process: exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman", "conform", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_our_gateway_passes_every_scenario(tmp_path: Path) -> None:
    a, b = free_ports(2)
    async with gateway_process(manifests(tmp_path, a, b)) as gateway:
        code, out, err = await conform(
            "--gateway", gateway.url, *(x for name in NAMES for x in ("--model", name)),
            "--listen-a", f"127.0.0.1:{a}", "--listen-b", f"127.0.0.1:{b}", "--timeout", str(SECONDS),
            "--recovery", "60", "--prompt", "20", "--title", "ours",
            "--markdown", str(tmp_path / "r.md"), "--junit", str(tmp_path / "r.xml"),
        )  # fmt: skip
        assert not gateway.messages("error")
    bad = [line for line in out.splitlines() if line and not line.startswith("pass ")]
    assert bad == [f"ours: {len(SCENARIOS)} pass"], err
    assert code == 0
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(len(SCENARIOS)), "0", "0")
    text = (tmp_path / "r.md").read_text()
    assert text.count("| pass |") == len(SCENARIOS)


OURS = {"hedge": "{firstTokenAfter: 100ms}", "hold": "{whileCold: Hold}"}


@pytest.mark.parametrize("option", OURS)
async def test_our_gateway_does_what_it_is_told_to(option: str, tmp_path: Path) -> None:
    a, b = free_ports(2)
    async with gateway_process(manifests(tmp_path, a, b, fallback=OURS[option])) as gateway:
        code, out, err = await conform(
            "--gateway", gateway.url, "--option", option, *(x for name in NAMES for x in ("--model", name)),
            "--listen-a", f"127.0.0.1:{a}", "--listen-b", f"127.0.0.1:{b}", "--timeout", str(SECONDS),
            "--recovery", "60", "--prompt", "20", "--title", "ours",
        )  # fmt: skip
        assert not gateway.messages("error")
    assert out.splitlines()[-1] == f"ours: {len(OPTIONS[option])} pass", out + err
    assert code == 0


@pytest.mark.parametrize("option", OURS)
async def test_a_gateway_that_was_told_nothing_does_not(option: str, tmp_path: Path) -> None:
    a, b = free_ports(2)
    async with gateway_process(manifests(tmp_path, a, b)) as gateway:
        options = Options(gateway.url, NAMES, (("127.0.0.1", a), ("127.0.0.1", b)), SECONDS, 60.0, None, {}, "plain")
        report = await run(options, OPTIONS[option][:1])
    assert [r.outcome for r in report.results] == [Outcome.FAIL]


EXPECTED = {
    "no-fault-json": "",
    "no-fault-stream": "",
    "refused-json": "",
    "500-stream": "",
    "400-of-the-caller-json": "",
    "not-http-json": "",
    "reset-before-headers-stream": "",
    "502-in-html-json": "the client got 502, and the second backend was not asked",
    "429-json": "the client got 429, and the second backend was not asked",
    "html-json": "the client got a broken body under 200",
    "html-stream": "the client got something else than a stream under 200",
    "empty-answer-json": "the client got 200 and nothing, and the second backend was not asked",
    "error-event-first": "the client got 200 and an error event, and the second backend was not asked",
    "clean-end-no-content": "the client got 200 and nothing, and the second backend was not asked",
    "cut-mid-content": "a second answer was spliced on",
    "clean-end-mid-answer": "it ended in order without an error: half an answer passes for a whole one",
    "done-mid-answer": "it ended with [DONE]: half an answer passes for a whole one",
    "silence-mid-answer": "the gateway waits for ever, as --timeout 0 says",
    "all-failing": "",
    "all-down": "the error is not in OpenAI's form; the error names a backend's address",
    "all-busy": "429 came without Retry-After; the second backend was not asked",
    "client-leaves-mid-answer": "the backend's connection was still open after 1 s",
    "401": "the client got 401, and the second backend was not asked",
}


async def test_a_bad_gateway_fails_for_the_reasons_it_should() -> None:
    a, b = free_ports(2)
    async with NaiveGateway(a, b) as gateway:
        options = Options(gateway.url, ("m",), (("127.0.0.1", a), ("127.0.0.1", b)), 0.0, 5.0, None, {}, "naive")
        report = await run(options, chosen(tuple(EXPECTED)))
    seen = {r.scenario.slug: "" if r.outcome is Outcome.PASS else r.saw for r in report.results}
    assert seen == EXPECTED


async def test_what_is_not_there_is_told_in_one_line() -> None:
    a, b, nobody = free_ports(3)
    listen = ("--listen-a", f"127.0.0.1:{a}", "--listen-b", f"127.0.0.1:{b}", "--recovery", "0.1")
    code, _, err = await conform("--gateway", f"http://127.0.0.1:{nobody}", "--model", "m", *listen)
    assert code == 3
    assert err == (
        f"pointsman: no answer came for model m; configure the gateway with http://127.0.0.1:{a}/v1 as first choice"
        f" and http://127.0.0.1:{b}/v1 as fallback\n"
    )
    with socket.create_server(("127.0.0.1", a)):
        code, _, err = await conform("--gateway", "http://127.0.0.1:1", "--model", "m", *listen)
    assert code == 3
    assert err.startswith(f"pointsman: cannot listen on 127.0.0.1:{a}: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give the gateway's URL with --gateway"),
        (("--only", "nothing-like-it"), "no scenario matches nothing-like-it"),
        (("--gateway", "localhost", "--model", "m"), "give the base URL with http"),
        (("--listen-a", "9101"), "9101 is not HOST:PORT"),
        (("--header", "x-nothing"), "'x-nothing' is not NAME:VALUE"),
        (("--gateway", "http://x", "--model", "m", "--key-env", "NOT_THERE_AT_ALL"), "has no NOT_THERE_AT_ALL"),
    ],
)
def test_usage(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["conform", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


async def test_headers_go_along() -> None:
    a, b = free_ports(2)
    async with NaiveGateway(a, b) as gateway:
        headers = {"x-of-the-gateway": "its configuration"}
        options = Options(gateway.url, ("m",), (("127.0.0.1", a), ("127.0.0.1", b)), 0.0, 5.0, None, headers, "naive")
        await run(options, chosen(("no-fault-json",)))
        assert all(h.get("x-of-the-gateway") == "its configuration" for h in gateway.headers)
        assert gateway.headers


def test_list_names_every_scenario() -> None:
    result = CliRunner().invoke(main, ["conform", "--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [s.slug for s in SCENARIOS]


def test_scenarios_are_distinct_and_say_why() -> None:
    assert len({s.slug for s in SCENARIOS}) == len(SCENARIOS)
    assert all(s.why for s in SCENARIOS)
    first_lingering = next(n for n, s in enumerate(SCENARIOS) if s.lingers)
    assert all(s.lingers for s in SCENARIOS[first_lingering:]), "what is remembered for long comes last"
