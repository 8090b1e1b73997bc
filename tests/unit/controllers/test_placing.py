"""Why no node takes a pod that wants GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import backend

from pointsman.controllers.placing import GpuNode, GpuView, Holder, gpu_node, unschedulable
from pointsman.engines.gpus import need

SHORT = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption"
    " victims found for incoming pod."
)
L4 = {"nvidia.com/gpu.product": "NVIDIA-L4"}
NODE = GpuNode("g1", L4, {"nvidia.com/gpu": 2})


def view(*nodes: GpuNode, holders: tuple[Holder, ...] = (), gpu: Any = None, **spec: Any) -> GpuView:
    of = backend({"gpu": gpu or {"count": 1}, **spec}).spec
    assert of.gpu is not None
    return GpuView(of, need(of.gpu), "ns", nodes, holders)


def holder(backend: str, count: int, namespace: str = "ns", node: str = "g1") -> Holder:
    return Holder(namespace, backend, node, "nvidia.com/gpu", count)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (view(), ("no node offers nvidia.com/gpu", "device plugin")),
        (view(replace(NODE, gpus={"nvidia.com/gpu": 0})), ("no node offers nvidia.com/gpu", "device plugin")),
        (view(NODE, gpu={"vendor": "AMD"}), ("no node offers amd.com/gpu", "nvidia.com/gpu")),
        (view(NODE, gpu={"product": "A100"}), ("nvidia.com/gpu.product=A100", "NVIDIA-L4")),
        (view(replace(NODE, labels={}), gpu={"product": "A100"}), ("feature discovery",)),
        (view(NODE, nodeSelector={"zone": "b"}), ("zone=b", "spec.nodeSelector")),
        (view(NODE, gpu={"count": 4}), ("no node has 4 nvidia.com/gpu", "the largest has 2")),
        (view(replace(NODE, cordoned=True)), ("cordoned", "g1")),
        (view(replace(NODE, taints=({"key": "a", "value": "b", "effect": "NoExecute"},))), ("a=b:NoExecute",)),
        (view(NODE, holders=(holder("x", 2),)), ("x holds 2", "of 2 on the nodes")),
        (view(NODE, holders=(holder("x", 1), holder("y", 1))), ("x holds 1, y holds 1",)),
        (view(NODE, holders=(holder("x", 1),), gpu={"count": 2}), ("x holds 1", "1 is free or held by other pods")),
        (view(NODE, holders=(holder("x", 2, "other"),)), ("backends of other namespaces hold 2",)),
        (view(NODE), ("all 2 on the nodes are in use by pods that are no backends",)),
        (view(NODE, holders=(holder("x", 2, node="elsewhere"),)), ("no backends of Pointsman",)),
    ],
)
def test_cause_is_named(seen: GpuView, words: tuple[str, ...]) -> None:
    said = unschedulable(SHORT, seen)
    assert all(w in said for w in words), said
    assert "preemption" not in said


def test_taints_of_the_vendor_and_of_the_spec_are_tolerated() -> None:
    taints = (
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "a", "value": "b", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
    )
    tolerated = view(replace(NODE, taints=taints), tolerations=[{"key": "a", "value": "b"}])
    assert "taint" not in unschedulable(SHORT, tolerated)
    assert "a=b" in unschedulable(SHORT, view(replace(NODE, taints=taints), tolerations=[{"key": "a", "value": "c"}]))


def test_what_is_no_matter_of_gpus_is_said_in_the_scheduler_s_words() -> None:
    said = unschedulable("0/1 nodes are available: 1 Insufficient memory. preemption: none.", view(NODE))
    assert said == "no node can take the pod: 0/1 nodes are available: 1 Insufficient memory."
    assert unschedulable("x", None) == "no node can take the pod: x"


def test_a_volume_on_another_node_is_no_lack_of_gpus() -> None:
    said = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had volume node affinity conflict."
    assert unschedulable(said, view(NODE)).startswith("the volume is tied to a node without 1 nvidia.com/gpu")
    both = "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu."
    assert unschedulable(both, view(NODE)) == f"no node can take the pod: {both}"
    other = (
        "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector,"
        " 1 node(s) had untolerated taint(s)."
    )
    assert "are in use" in unschedulable(other, view(NODE))


def test_without_a_view_of_nodes() -> None:
    said = unschedulable(SHORT, replace(view(gpu={"count": 2}), nodes=None))
    assert said.startswith("no node has 2 nvidia.com/gpu to spare: 0/3 nodes")


def test_of_a_node_only_what_has_to_do_with_gpus_is_kept() -> None:
    plain: dict[str, Any] = {"metadata": {"name": "n", "labels": {"a": "b"}}, "status": {"allocatable": {"cpu": "4"}}}
    assert gpu_node(plain) is None
    plain["status"]["allocatable"] |= {"nvidia.com/mig-1g.10gb": "7", "example.com/fpga": "1"}
    found = gpu_node(plain)
    assert found is not None
    assert found.gpus == {"nvidia.com/mig-1g.10gb": 7}
