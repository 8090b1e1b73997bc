"""What the operator may do on the API server: exactly what it does, verb by verb. The chart renders these rules.

Why each is needed:
- the two kinds: read; `get` only because it hands that right to gateways (nobody can grant what he lacks);
  `/finalizers` for clusters that check owner references (OpenShift);
- children are read before they are written, so `get` stands beside `list` and `watch`; server-side apply needs `create`
  and `patch`;
- a backend that goes from one node to several, or back, has its Deployment or LeaderWorkerSet deleted;
- claims are never deleted by the operator: their owner references are;
- Secrets are read because gateways get that right, for the Secrets that backends name, from the operator, and to say
  whether such a Secret exists (no value is kept; of those that pulls are given only the metadata is asked for); one
  Secret of its own is made in each namespace;
- ConfigMaps are read for the same reasons: gateways get that right for those with CA bundles, from the operator;
- EndpointSlices are only handed on;
- what gateways run under (ServiceAccount, Role, RoleBinding, budget) may be changed by its one name only. `create`
  cannot be limited by name, `list` and `watch` cannot either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointsman.api import meta
from pointsman.kube.resources import LEADER_WORKER_SETS

READ = ("get", "list", "watch")


@dataclass(frozen=True)
class Rule:
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Empty: whatever the name."""

    def to_api(self) -> dict[str, Any]:
        out: dict[str, Any] = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        if self.names:
            out["resourceNames"] = list(self.names)
        return out


_GATEWAY = (meta.GATEWAY_NAME,)
_RBAC = "rbac.authorization.k8s.io"

RULES: tuple[Rule, ...] = (
    Rule(meta.GROUP, (meta.BACKEND_PLURAL, meta.ROUTE_PLURAL), READ),
    Rule(meta.GROUP, (f"{meta.BACKEND_PLURAL}/status", f"{meta.ROUTE_PLURAL}/status"), ("patch",)),
    Rule(meta.GROUP, (f"{meta.BACKEND_PLURAL}/finalizers", f"{meta.ROUTE_PLURAL}/finalizers"), ("update",)),
    Rule("apps", ("deployments",), (*READ, "create", "patch", "delete")),
    Rule(LEADER_WORKER_SETS.group, (LEADER_WORKER_SETS.plural,), (*READ, "create", "patch", "delete")),
    Rule("", ("services",), (*READ, "create", "patch")),
    Rule("", ("services",), ("delete",), _GATEWAY),
    Rule("", ("persistentvolumeclaims",), (*READ, "create", "patch")),
    Rule("batch", ("jobs",), (*READ, "create", "patch", "delete")),
    Rule("", ("pods",), ("list", "watch")),
    Rule("", ("events",), ("create", "list")),
    Rule("", ("secrets",), (*READ, "create")),
    Rule("", ("secrets",), ("patch", "delete"), (meta.REPORT_SECRET,)),
    Rule("", ("configmaps",), READ),
    Rule("discovery.k8s.io", ("endpointslices",), READ),
    Rule("", ("serviceaccounts",), ("list", "watch", "create")),
    Rule("", ("serviceaccounts",), ("get", "patch", "delete"), _GATEWAY),
    Rule(_RBAC, ("roles", "rolebindings"), ("list", "watch", "create")),
    Rule(_RBAC, ("roles", "rolebindings"), ("get", "patch", "delete"), _GATEWAY),
    Rule("policy", ("poddisruptionbudgets",), ("list", "watch", "create")),
    Rule("policy", ("poddisruptionbudgets",), ("get", "patch", "delete"), _GATEWAY),
)
"""In all namespaces (a ClusterRole), or in each that it looks after (a Role)."""

CLUSTER_RULES: tuple[Rule, ...] = (Rule("", ("nodes",), ("list",)),)
"""Where it looks after all namespaces (a ClusterRole): which GPUs nodes have, read for backends that want some.
Without this right the scheduler's words are all that a condition says."""

LEASE_RULES: tuple[Rule, ...] = (
    Rule("coordination.k8s.io", ("leases",), ("create",)),
    Rule("coordination.k8s.io", ("leases",), ("get", "update"), (meta.LEASE_NAME,)),
)
"""In the operator's own namespace."""


def rules() -> list[dict[str, Any]]:
    """`RULES` as a Role has them."""
    return [r.to_api() for r in RULES]


def cluster_rules() -> list[dict[str, Any]]:
    """`CLUSTER_RULES` as a ClusterRole has them."""
    return [r.to_api() for r in CLUSTER_RULES]


def lease_rules() -> list[dict[str, Any]]:
    """`LEASE_RULES` as a Role has them."""
    return [r.to_api() for r in LEASE_RULES]
