"""docs/reference/gateway.md is complete and true: every flag, variable, path, event and metric, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tests.gateway.test_admin import record, serving

from pointsman.cli.gateway import gateway as command
from pointsman.gateway.insight.broadcast import event_body
from pointsman.gateway.insight.events import FellBack, HealthChanged, TableChanged, Wanted
from pointsman.gateway.insight.metrics import GatewayMeter, registry_of
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

PAGE = (Path(__file__).parents[2] / "docs/reference/gateway.md").read_text()


OTHERS = {"POINTSMAN_REPORT_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
"""Variables that no flag has: `tests/gateway/datapath/test_proxies.py` shows that the last four act."""


def rows(section: str) -> dict[str, list[str]]:
    """The table of a section: first cell → the others."""
    text = re.split(rf"^#+ {section}$", PAGE, flags=re.M)[1]
    text = re.split(r"^#+ ", text, flags=re.M)[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_flag_is_there() -> None:
    documented = {name for cell in rows("Flags") for name in code(cell)}
    known = {o for p in command.params if not getattr(p, "hidden", False) for o in p.opts}
    assert documented == known


def test_every_variable_is_there() -> None:
    named = {str(p.envvar) for p in command.params if p.envvar}
    assert {name for cell in rows("Environment") for name in code(cell)} == named | OTHERS


async def test_every_path_of_the_admin_port_is_there() -> None:
    async with serving("a") as gateway:
        runner = gateway.admin._runner
        assert runner is not None
        served = {f"{r.method} {r.resource.canonical}" for r in runner.app.router.routes() if r.resource}
    assert {name for cell in rows("Admin port") for name in code(cell)} == {p for p in served if "HEAD" not in p}


async def test_every_event_is_there_with_its_fields() -> None:
    documented = {code(kind)[0]: set(code(cells[0])) for kind, cells in rows("Events").items()}
    own = {"Hello", "Lost"}
    heard = {}
    async with serving("a", "b") as gateway:
        gateway.state.subscribe(lambda event: heard.update([event_body(event)]))
        gateway.eject("a")
        gateway.state.fell_back("chat", "a", "b", "Refused", "r")
        gateway.state.set_table(gateway.state.table)
        gateway.state.want("a", 1.0)
    assert set(heard) == {kind.__name__ for kind in (HealthChanged, FellBack, TableChanged, Wanted)}
    assert set(documented) == set(heard) | own
    for kind, body in heard.items():
        assert documented[kind] == set(body) - {"at"}


def test_every_metric_is_there_with_its_type_and_labels() -> None:
    meter = GatewayMeter()
    meter.request_started()
    meter.request_finished(record(completion_tokens=5))
    found = {}
    for family in registry_of(meter, GatewayState("g", meter=meter), SourceStatus("manifests", "x")).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (family.type, list(getattr(family, "_labelnames", ())))
    documented = {code(cell)[0]: (cells[0], code(cells[1])) for cell, cells in rows("Metrics").items()}
    assert documented == found
