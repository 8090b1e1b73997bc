"""Why no node takes a pod that wants GPUs: the scheduler's words, held against what the nodes have. Pure.

The scheduler counts nodes by the filter that refused them and names none. Decided here: which of the possible causes it
is, from the one that no waiting heals (nobody has such a GPU) to the one that does (all are in use), and the sentence
that says what to do. Without a view of the nodes (an operator that may read its namespaces only) the scheduler's own
words are all there is. Not here: which GPUs a spec means (`engines/gpus.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.api.backend import LLMBackendSpec
from pointsman.engines import gpus
from pointsman.engines.gpus import GpuNeed
from pointsman.kube.resources import Obj, labels_of, name_of

_NAMED = 5
"""How many names a sentence lists."""
_PREEMPTION = re.compile(r"\s*preemption: .*", re.DOTALL)
_VOLUME_ELSEWHERE = "volume node affinity conflict"
_OTHER_NODES = ("didn't match Pod's node affinity/selector", "untolerated taint(s)", "were unschedulable")
"""What the scheduler says of nodes that are not meant anyway."""
_BLOCKING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class GpuNode:
    """What decides about GPUs on a node."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, int] = field(default_factory=dict)
    """Allocatable, by resource."""
    taints: tuple[Mapping[str, str], ...] = ()
    cordoned: bool = False


@dataclass(frozen=True)
class Holder:
    """A pod of a backend that holds GPUs."""

    namespace: str
    backend: str
    node: str
    resource: str
    count: int


@dataclass(frozen=True)
class GpuView:
    """What there is to say about the GPUs of one backend."""

    spec: LLMBackendSpec
    """Its profile written out."""
    need: GpuNeed
    namespace: str
    nodes: tuple[GpuNode, ...] | None = None
    """Those with GPUs; None: nobody may look."""
    holders: tuple[Holder, ...] = ()
    """Pods of all backends that the operator looks after."""


def gpu_node(node: Obj) -> GpuNode | None:
    """None for a node without GPUs and without labels of any."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    found = {name: int(n) for name, n in allocatable.items() if gpus.is_gpu(name) and str(n).isdigit()}
    labels = labels_of(node)
    if not found and not any(gpus.is_gpu(key) for key in labels):
        return None
    spec = node.get("spec") or {}
    return GpuNode(name_of(node), dict(labels), found, tuple(spec.get("taints") or ()), bool(spec.get("unschedulable")))


def unschedulable(message: str, view: GpuView | None) -> str:
    """`message`: the scheduler's. `view`: None for a pod that wants no GPU."""
    said = _PREEMPTION.sub("", message).strip()
    plain = f"no node can take the pod: {said}"
    if view is None:
        return plain
    if view.nodes is None:
        insufficient = f"Insufficient {view.need.resource}" in said
        return f"no node has {_amount(view.need)} to spare: {said}" if insufficient else plain
    return _lacking(view, view.nodes) or _in_use(said, view, view.nodes) or plain


def _lacking(view: GpuView, nodes: Sequence[GpuNode]) -> str:
    """What no node has, however long one waits; empty when some node could take the pod."""
    need, spec = view.need, view.spec
    having = [n for n in nodes if n.gpus.get(need.resource)]
    if not having:
        offered = sorted({r for n in nodes for r, count in n.gpus.items() if count})
        if not offered:
            return f"no node offers {need.resource}: is the vendor's device plugin running, and its driver well?"
        return (
            f"no node offers {need.resource}; nodes offer {_names(offered)}: set spec.gpu.resourceName to one of these"
        )
    if need.product:
        label = need.product_label
        fitting = [n for n in having if n.labels.get(label) == need.product]
        if not fitting:
            known = sorted({n.labels[label] for n in having if n.labels.get(label)})
            if not known:
                return (
                    f"no node with {need.resource} has the label {label}: run the vendor's feature discovery, or remove"
                    " spec.gpu.product"
                )
            return (
                f"no node with {need.resource} has {label}={need.product}; there is {_names(known)}: set"
                " spec.gpu.product to one of these"
            )
        having = fitting
    for key, value in (spec.node_selector or {}).items():
        fitting = [n for n in having if n.labels.get(key) == value]
        if not fitting:
            return f"no node with {_kind(need)} has the label {key}={value} of spec.nodeSelector"
        having = fitting
    most = max(n.gpus[need.resource] for n in having)
    if most < need.count:
        return f"no node has {_amount(need)}: the largest has {most}; set spec.gpu.count to {most} at most"
    having = [n for n in having if n.gpus[need.resource] >= need.count]
    open_to = [n for n in having if not n.cordoned]
    if not open_to:
        return f"every node with {_kind(need)} is cordoned ({_names([n.name for n in having])}): kubectl uncordon"
    if all(_untolerated(n, spec) for n in open_to):
        node = open_to[0]
        taint = _untolerated(node, spec)[0]
        text = f"{taint.get('key')}{'=' + taint['value'] if taint.get('value') else ''}:{taint.get('effect')}"
        return f"node {node.name} has {_kind(need)} but the taint {text}: add a toleration for it to spec.tolerations"
    return ""


def _in_use(said: str, view: GpuView, nodes: Sequence[GpuNode]) -> str:
    """Who holds the GPUs that the pod waits for; empty when GPUs are not what it waits for."""
    need = view.need
    if _VOLUME_ELSEWHERE in said:
        return f"the volume is tied to a node without {_amount(need)} to spare: {said}"
    if not _only_gpus(said, need):
        return ""
    fitting = {
        n.name: n.gpus[need.resource]
        for n in nodes
        if n.gpus.get(need.resource) and (not need.product or n.labels.get(need.product_label) == need.product)
    }
    held: Counter[str] = Counter()
    others = 0
    for holder in view.holders:
        if holder.node in fitting and holder.resource == need.resource:
            if holder.namespace == view.namespace:
                held[holder.backend] += holder.count
            else:
                others += holder.count
    total = sum(fitting.values())
    parts = [f"{name} holds {count}" for name, count in sorted(held.items(), key=lambda h: (-h[1], h[0]))[:_NAMED]]
    if others:
        parts.append(f"backends of other namespaces hold {others}")
    if not parts:
        parts.append("by pods that are no backends of Pointsman")
    elif rest := total - sum(held.values()) - others:
        parts.append(f"{rest} {'is' if rest == 1 else 'are'} free or held by other pods")
    return (
        f"waits for {_amount(need)}; of {total} on the nodes, {', '.join(parts)}: scale one down, or add a GPU"
        if held or others
        else f"waits for {_amount(need)}; all {total} on the nodes are in use {parts[0]}: free one, or add a GPU"
    )


def _only_gpus(said: str, need: GpuNeed) -> bool:
    """Is it GPUs, and nothing else, that the nodes lack that could have them?"""
    reasons = [r.strip() for r in said.rstrip(".").partition(": ")[2].split(", ")]
    lacking = f"Insufficient {need.resource}"
    return any(lacking in r for r in reasons) and all(lacking in r or r.endswith(_OTHER_NODES) for r in reasons)


def _untolerated(node: GpuNode, spec: LLMBackendSpec) -> list[Mapping[str, str]]:
    ours = [t.to_api() for t in spec.tolerations or ()]
    if spec.gpu is not None:
        ours += gpus.tolerations(spec.gpu)
    return [t for t in node.taints if t.get("effect") in _BLOCKING and not any(_tolerates(o, t) for o in ours)]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint.get("key")
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def _amount(need: GpuNeed) -> str:
    return f"{need.count} {_kind(need)}"


def _kind(need: GpuNeed) -> str:
    return f"{need.resource} ({need.product})" if need.product else need.resource


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
