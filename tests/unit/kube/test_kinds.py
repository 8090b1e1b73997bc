"""A kind that is not there is asked for seldom, however often somebody wants it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pointsman.kube.cache import Cache
from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError, Connection, Forbidden, NotFound
from pointsman.kube.kinds import LOOK_SECONDS, OptionalKinds
from pointsman.kube.resources import LEADER_WORKER_SETS


class Server:
    """Answers lists as told."""

    def __init__(self, error: ApiError) -> None:
        self.error = error
        self.asked = 0
        self.now = 100.0

    async def list(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        raise self.error


def kinds(server: Server) -> OptionalKinds:
    nobody = cast(Connection, None)
    return OptionalKinds(nobody, cast(ApplyClient, server), Cache(), (), lambda *_: None, lambda: server.now)


async def test_missing_kind_is_not_asked_for_all_the_time() -> None:
    server = Server(NotFound("404", status=404))
    known = kinds(server)
    said = {await known.missing(LEADER_WORKER_SETS) for _ in range(50)}
    assert server.asked == 1
    assert said == {
        "the cluster has no LeaderWorkerSet (leaderworkerset.x-k8s.io/v1), which vllm.nodes needs: install it, or"
        " remove vllm.nodes"
    }
    server.now += LOOK_SECONDS
    await known.missing(LEADER_WORKER_SETS)
    assert server.asked == 2


async def test_kind_that_may_not_be_read_is_another_sentence() -> None:
    said = await kinds(Server(Forbidden("403", status=403))).missing(LEADER_WORKER_SETS)
    assert said.startswith("the operator may not read leaderworkersets.leaderworkerset.x-k8s.io: upgrade the chart")


async def test_api_server_that_is_away_says_nothing_about_a_kind() -> None:
    server = Server(ApiError("away"))
    known = kinds(server)
    for _ in range(2):
        with pytest.raises(ApiError):
            await known.missing(LEADER_WORKER_SETS)
    assert server.asked == 2
