"""A backend from one pod to none, to one, to three and to none again, while somebody asks all the time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines
from tests.e2e.waiting import until

STEPS = (0, 1, 3, 0)


def walk(scene: Stage, name: str, route: str, spare: str, seconds: float) -> None:
    """`route` goes to `name`, and to `spare` behind it. At each step: the status and the conditions, what the gateways
    know, and who answers; nobody fails on the way. `seconds`: what its pods may take to start."""
    with scene.gateway() as url, _asking(url, route) as answers:
        for number in STEPS:
            scene.kubectl("scale", f"pmb/{name}", f"--replicas={number}")
            until(lambda: _settled(scene, name, number), f"{name} says that it has {number} pods", seconds)  # noqa: B023
            until(lambda: _known(scene, name) == {number}, f"each gateway has {number} healthy endpoints", 60)  # noqa: B023
            before = len(answers)
            engines.served_by(url, route, name if number else spare, 60)
            until(lambda: len(answers) > before, "somebody asks all the time", 60)  # noqa: B023
    assert [a for a in answers if a not in (name, spare)] == []


def back(scene: Stage, name: str, seconds: float) -> None:
    """To the one pod that it had."""
    scene.kubectl("scale", f"pmb/{name}", "--replicas=1")
    until(lambda: _settled(scene, name, 1), f"{name} has its pod again", seconds)


def _settled(scene: Stage, name: str, number: int) -> bool:
    status = scene.get("pmb", name).get("status", {})
    said = {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", ())}
    wanted = ("True", "Ready" if number else "ScaledToZero")
    there = (status.get("replicas", 0), status.get("readyReplicas", 0))
    return said.get("Ready") == wanted and there == (number, number)


def _known(scene: Stage, name: str) -> set[int]:
    """How many healthy endpoints each gateway knows."""
    out = set()
    for pod in scene.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o", "name").split():
        path = f"/api/v1/namespaces/{scene.namespace}/pods/{pod.removeprefix('pod/')}:9090/proxy/v1/backends"
        backends = json.loads(scene.kubectl("get", "--raw", path))["backends"]
        endpoints = next(b for b in backends if b["name"] == name).get("endpoints", ())
        out.add(sum(e["state"] == "Healthy" for e in endpoints))
    return out


@contextmanager
def _asking(url: str, route: str) -> Iterator[list[str]]:
    """Somebody asks all the time; who answered, or what was wrong."""
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            got = engines.ask(url, route)
            right = got.status_code == 200 and got.json()["choices"][0]["message"]["content"].strip() == ANSWER
            answers.append(got.headers["x-pointsman-backend"] if right else f"{got.status_code} {got.text}")
            ended.wait(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        ended.set()
        asking.join()
