"""A cluster that the operator is installed in, but for its pod: the CRDs, its service account and the rights it ships
with."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.cluster.cluster import Cluster

from pointsman.kube.connect import Connection
from pointsman.kube.rbac import cluster_rules, lease_rules, rules

CRDS = Path(__file__).resolve().parents[2] / "crds"
SYSTEM = "pointsman-system"


def install(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    for crd in ("llmbackends", "modelroutes"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}.pointsman.dev", "--timeout=30s")
    rbac = "rbac.authorization.k8s.io"
    subject = [{"kind": "ServiceAccount", "name": "operator", "namespace": SYSTEM}]
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": SYSTEM}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "pointsman-operator"},
         "rules": [*rules(), *cluster_rules()]},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "pointsman-operator"},
         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "pointsman-operator"}, "subjects": subject},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "operator", "namespace": SYSTEM},
         "rules": lease_rules()},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": "operator", "namespace": SYSTEM},
         "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"}, "subjects": subject},
    ]  # fmt: skip
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))


def kubeconfig_of_operator(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig with the operator's own rights, and no others."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "operator", "-n", SYSTEM, "--duration=2h").strip()
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    context = {"cluster": config["clusters"][0]["name"], "user": "operator", "namespace": SYSTEM}
    config["contexts"] = [{"name": "operator", "context": context}]
    config["current-context"] = "operator"
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


async def make_namespace(api: Connection, name: str) -> None:
    """A namespace that takes restricted pods only."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}}  # fmt: skip
    await api.request("POST", "/api/v1/namespaces", body=body)
