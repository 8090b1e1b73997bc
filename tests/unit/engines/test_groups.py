"""A replica on several nodes: one pod serves, the others only compute; and both are told the same model."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.cluster import backend
from tests.unit.engines.test_golden import OURS, rendered

from pointsman.engines.drivers import DRIVERS
from pointsman.engines.groups import NAME_LENGTH, group_name

MANY = {"storage": {"accessMode": "ReadWriteMany"}}


def groups(count: int = 8, **vllm: Any) -> Any:
    """The LeaderWorkerSet of pods with so many GPUs."""
    spec = OURS["vllm"] | MANY | {"gpu": {"count": count}, "vllm": {"nodes": 2, **vllm}}
    (found,) = [o for o in rendered(backend(spec)) if o["kind"] == "LeaderWorkerSet"]
    return found["spec"]["leaderWorkerTemplate"]


def engine(template: Any) -> Any:
    (container,) = template["spec"]["containers"]
    return container


def flags(template: Any) -> dict[str, str]:
    words = engine(template)["args"]
    return {w: words[i + 1] if i + 1 < len(words) else "" for i, w in enumerate(words) if w.startswith("--")}


def test_leader_listens_and_workers_do_not() -> None:
    of = groups()
    leader, worker = engine(of["leaderTemplate"]), engine(of["workerTemplate"])
    assert worker["args"] == [*leader["args"], "--headless"]
    assert {"ports", "startupProbe", "readinessProbe", "livenessProbe"} <= leader.keys()
    assert not {"ports", "startupProbe", "readinessProbe", "livenessProbe"} & worker.keys()
    same = ("image", "env", "resources", "volumeMounts", "securityContext", "lifecycle")
    assert {k: leader[k] for k in same} == {k: worker[k] for k in same}


def test_what_selects_the_engines_pods_selects_no_worker() -> None:
    of, (service, *_) = groups(), rendered(backend(OURS["vllm"] | MANY | {"vllm": {"nodes": 2}}))
    wanted = service["spec"]["selector"].items()
    assert wanted <= of["leaderTemplate"]["metadata"]["labels"].items()
    assert not wanted <= of["workerTemplate"]["metadata"]["labels"].items()
    assert of["workerTemplate"]["metadata"]["labels"]["pointsman.dev/backend"] == "b"


@pytest.mark.parametrize(
    ("count", "stages", "tensors", "pipeline"),
    [(8, None, "8", "2"), (8, 1, "16", "1"), (8, 4, "4", "4"), (1, None, None, "2")],
)  # fmt: skip
def test_gpus_of_a_replica_are_shared_out_among_its_stages(
    count: int, stages: int | None, tensors: str | None, pipeline: str
) -> None:
    said = flags(groups(count, **({} if stages is None else {"pipelineParallelSize": stages}))["leaderTemplate"])
    assert (said.get("--tensor-parallel-size"), said["--pipeline-parallel-size"]) == (tensors, pipeline)
    assert (said["--nnodes"], said["--node-rank"], said["--master-addr"]) == (
        "2", "$(LWS_WORKER_INDEX)", "$(LWS_LEADER_ADDRESS)",
    )  # fmt: skip


def test_gpus_that_do_not_share_out_are_said() -> None:
    of = backend(OURS["vllm"] | MANY | {"gpu": {"count": 1}, "vllm": {"nodes": 2, "pipelineParallelSize": 3}})
    said = "spec.vllm.pipelineParallelSize: 2 GPUs cannot be shared out evenly among 3 stages"
    assert DRIVERS[of.spec.engine].problem(of.spec) == said


def test_one_node_takes_no_second_volume_of_one_node() -> None:
    with pytest.raises(ValueError, match=r"set storage\.accessMode to ReadWriteMany, or storage\.mode to PerPod"):
        backend(OURS["vllm"] | {"vllm": {"nodes": 2}})
    for storage in ({"mode": "PerPod"}, {"existingClaim": "c"}):
        backend(OURS["vllm"] | {"storage": storage, "vllm": {"nodes": 2}})


def test_templates_have_a_digest_that_only_their_change_changes() -> None:
    def digests(**vllm: Any) -> set[str]:
        of = groups(**vllm)
        return {
            of[t]["metadata"]["annotations"]["pointsman.dev/template"] for t in ("leaderTemplate", "workerTemplate")
        }

    (before,) = digests()
    assert digests() == {before}
    assert digests(maxModelLen=9) != {before}
    assert digests(nodes=4) != {before}


def test_group_has_a_name_of_its_own_that_labels_have_room_for() -> None:
    names = ["b", "b-0", "b-1", "b-0-0", "x" * 50, "x" * 49 + "1", "long-" * 9 + "0"]
    found = [group_name(n) for n in names]
    assert len(set(found)) == len(found)
    assert found[0] == "pmg-b"
    for name in found:
        assert len(name) <= NAME_LENGTH
        assert not name.rpartition("-")[2].isdigit(), "NAME-0 is also what its pods are called"
