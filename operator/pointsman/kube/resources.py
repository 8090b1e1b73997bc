"""The kinds of objects the operator touches, and their paths on the API server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api import meta

Obj = dict[str, Any]
"""A Kubernetes object exactly as the API server shows it."""


@dataclass(frozen=True)
class Resource:
    """One namespaced kind."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """`apps`; empty for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """`namespace` None: all of them (lists only)."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, sub))])


BACKENDS = Resource(meta.API_VERSION, meta.BACKEND_KIND, meta.BACKEND_PLURAL)
ROUTES = Resource(meta.API_VERSION, meta.ROUTE_KIND, meta.ROUTE_PLURAL)
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
SERVICES = Resource("v1", "Service", "services")
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
JOBS = Resource("batch/v1", "Job", "jobs")
PODS = Resource("v1", "Pod", "pods")
SECRETS = Resource("v1", "Secret", "secrets")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")
ROLES = Resource("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
BUDGETS = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
EVENTS = Resource("v1", "Event", "events")
NODES = Resource("v1", "Node", "nodes")
"""Of the cluster: listed only."""
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")

OURS = (BACKENDS, ROUTES)
OWNED = (DEPLOYMENTS, SERVICES, CLAIMS, JOBS, PODS, SECRETS, SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, BUDGETS)
"""Watched with the label that marks what the operator made."""
OWNED_SELECTOR = f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY}"
WATCHED = (*OURS, *OWNED)
OPTIONAL = (LEADER_WORKER_SETS,)
"""Kinds that a cluster need not have: watched like `OWNED` where they are there."""
BY_KIND: Mapping[str, Resource] = {r.kind: r for r in (*WATCHED, *OPTIONAL, ENDPOINT_SLICES, EVENTS, LEASES)}


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """Raises `KeyError` for a kind the operator does not know."""
    return BY_KIND[manifest["kind"]]


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def name_of(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def uid_of(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("uid", ""))


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def owner_uids(obj: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(o.get("uid", "") for o in obj["metadata"].get("ownerReferences") or ())
