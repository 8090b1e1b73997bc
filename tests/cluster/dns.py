"""DNS of the cluster: CoreDNS as a daemon on the node's address, behind the usual Service ``kube-dns``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.namespaces import Namespaces
from tests.cluster.plan import CLUSTER_DOMAIN, HOST_NAME, Plan


def write_resolv_conf(plan: Plan) -> None:
    """The node's own resolver file, for containerd's pulls and for pods with ``dnsPolicy: Default``."""
    (plan.state / "resolv.conf").write_text(f"nameserver {plan.node_ip}\n")


def start(plan: Plan, inside: Namespaces, programs: Mapping[str, Path]) -> None:
    """Start CoreDNS. Every name but the cluster's and the machine's is NXDOMAIN at once: there is no way out anyway."""
    corefile = plan.state / "Corefile"
    corefile.write_text(_corefile(plan))
    inside.start("coredns", [str(programs["coredns"]), "-conf", str(corefile)])


def _corefile(plan: Plan) -> str:
    # One block a zone: within a block the order of plugins is CoreDNS's own, and `template` comes before the others.
    common = f"bind {plan.node_ip}\n    errors"
    return f"""\
{CLUSTER_DOMAIN} in-addr.arpa {{
    {common}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {plan.kubeconfig} {plan.name}
        pods insecure
        ttl 5
    }}
}}
{HOST_NAME} {{
    {common}
    hosts {{
        {plan.host_ip} {HOST_NAME}
    }}
}}
. {{
    {common}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def objects(plan: Plan) -> list[tuple[str, Object]]:
    """The Service and, as it selects no pod, its endpoint; each with the collection it belongs to."""
    namespace = "kube-system"
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": namespace},
        "spec": {
            "clusterIP": plan.dns_service,
            "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
        },
    }
    endpoints: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-node",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.node_ip], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
    }
    return [
        (f"/api/v1/namespaces/{namespace}/services", service),
        (f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", endpoints),
    ]
