"""The objects a namespace's gateway is made of. Pure.

Decided here: what each is, and what the gateway may read: the two kinds and EndpointSlices of its own namespace, and
exactly the Secrets and ConfigMaps that External backends name. Without such a Secret there is no rule about Secrets at
all: an empty list of names would grant all of them.
"""

from __future__ import annotations

import base64
from typing import Any

from pointsman.api import meta
from pointsman.controllers.drift import stamped
from pointsman.controllers.settings import Settings
from pointsman.domain.references import References
from pointsman.engines.base import CONTAINER_SECURITY, HOSTNAME, POD_SECURITY
from pointsman.kube.resources import Obj

COMPONENT = "gateway"
PORT = 8080
ADMIN_PORT = 9090
TOKEN_FOLDER = "/run/pointsman/report"  # noqa: S105  a path
STATE_FOLDER = "/var/lib/pointsman"
GRACE_MARGIN = 30
"""Seconds a gateway has beyond its drain."""
SELECTOR = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.COMPONENT_LABEL: COMPONENT}
LABELS = {**SELECTOR, "app.kubernetes.io/name": meta.GATEWAY_NAME}


def children(namespace: str, settings: Settings, named: References) -> list[Obj]:
    """All but the report's Secret, in the order they are applied."""
    out = [
        _object(namespace, "v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        _object(namespace, "rbac.authorization.k8s.io/v1", "Role", {"rules": rules(named)}),
        _object(namespace, "rbac.authorization.k8s.io/v1", "RoleBinding", _binding(namespace)),
        _object(namespace, "v1", "Service", {"spec": _service()}),
        _object(namespace, "apps/v1", "Deployment", {"spec": _deployment(settings)}),
    ]
    if settings.gateway.replicas > 1:
        # A gateway that is not ready must not hold up the draining of its node.
        budget = {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": SELECTOR},
        }
        out.append(_object(namespace, "policy/v1", "PodDisruptionBudget", {"spec": budget}))
    return out


def rules(named: References) -> list[dict[str, Any]]:
    """What a gateway may do."""
    reads = ["get", "list", "watch"]
    out = [
        {"apiGroups": [meta.GROUP], "resources": [meta.BACKEND_PLURAL, meta.ROUTE_PLURAL], "verbs": reads},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": reads},
    ]
    for resource, names in (("secrets", named.secrets), ("configmaps", named.config_maps)):
        if names:
            out.append({"apiGroups": [""], "resources": [resource], "resourceNames": sorted(names), "verbs": reads})
    return out


def report_secret(namespace: str, token: str) -> Obj:
    """`token` opens the reports of this namespace's gateways and pulls. Made once."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": meta.REPORT_SECRET, "namespace": namespace, "labels": LABELS},
        "type": "Opaque",
        "data": {meta.REPORT_SECRET_KEY: base64.b64encode(token.encode()).decode()},
    }


def _object(namespace: str, api_version: str, kind: str, body: dict[str, Any]) -> Obj:
    metadata = {"name": meta.GATEWAY_NAME, "namespace": namespace, "labels": LABELS}
    return stamped({"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})


def _binding(namespace: str) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": meta.GATEWAY_NAME},
        "subjects": [{"kind": "ServiceAccount", "name": meta.GATEWAY_NAME, "namespace": namespace}],
    }


def _service() -> dict[str, Any]:
    """Only the data port: the admin port is for those who know a pod."""
    return {
        "type": "ClusterIP",
        "selector": SELECTOR,
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    }


def _deployment(settings: Settings) -> dict[str, Any]:
    g = settings.gateway
    container: dict[str, Any] = {
        "name": COMPONENT,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [
            "gateway", "--port", str(PORT), "--admin-port", str(ADMIN_PORT),
            "--report-token-file", f"{TOKEN_FOLDER}/{meta.REPORT_SECRET_KEY}", "--state-dir", STATE_FOLDER,
        ],
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "admin"},
            "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "admin"},
            "initialDelaySeconds": 5, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "resources": g.resources.to_api(),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "report", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "state", "mountPath": STATE_FOLDER},
        ],
    }  # fmt: skip
    if variables := g.proxy.variables():
        container["env"] = [{"name": k, "value": v} for k, v in variables.items()]
    if g.proxy.secret_name:
        container["envFrom"] = [{"secretRef": {"name": g.proxy.secret_name}}]
    spread = {
        "maxSkew": 1,
        "topologyKey": HOSTNAME,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": SELECTOR},
    }
    pod: dict[str, Any] = {
        "serviceAccountName": meta.GATEWAY_NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": g.drain_seconds + GRACE_MARGIN,
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [
            {"name": "report", "secret": {"secretName": meta.REPORT_SECRET, "defaultMode": 0o440}},
            {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        ],
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": s} for s in settings.image_pull_secrets]
    if g.node_selector:
        pod["nodeSelector"] = g.node_selector
    if g.tolerations:
        pod["tolerations"] = [t.to_api() for t in g.tolerations]
    if g.priority_class_name:
        pod["priorityClassName"] = g.priority_class_name
    scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": str(ADMIN_PORT), "prometheus.io/path": "/metrics"}
    return {
        "replicas": g.replicas,
        "selector": {"matchLabels": SELECTOR},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 3,
        "template": {"metadata": {"labels": LABELS, "annotations": scrape}, "spec": pod},
    }
