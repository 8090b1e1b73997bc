"""The control plane's daemons and their flags: etcd, API server, controllers, scheduler, volume provisioner."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.cache import REPOSITORY
from tests.cluster.namespaces import Namespaces
from tests.cluster.plan import API_PORT, Plan

_ETCD = "http://127.0.0.1:2379"

# By default the controller manager allows itself 20 calls a second, which makes its start alone take 4 s.
_UNTHROTTLED = ("--kube-api-qps=1000", "--kube-api-burst=2000")


def start_api_server(plan: Plan, inside: Namespaces, programs: Mapping[str, Path], further: Sequence[str] = ()) -> None:
    """Start etcd and the API server, with further flags; it retries until etcd listens."""
    pki = plan.state / "pki"
    inside.start(
        "etcd",
        [
            "etcd",
            f"--data-dir={plan.state / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            # The data lives no longer than the cluster, so nothing is worth waiting for the disk.
            "--unsafe-no-fsync",
        ],
    )
    inside.start(
        "apiserver",
        [
            str(programs["kube-apiserver"]),
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={plan.node_ip}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={plan.services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            # Other API servers may stand behind it, and are told who asks (KEDA's metrics).
            f"--requestheader-client-ca-file={pki / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            # It asks their pods: a Service's address is none that it could reach itself.
            "--enable-aggregator-routing=true",
            f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            *further,
        ],
    )


def start_controllers(plan: Plan, inside: Namespaces, programs: Mapping[str, Path]) -> None:
    """Start what works on the API server's objects; each of them waits for it by itself."""
    pki = plan.state / "pki"
    controllers = plan.state / "controller-manager.kubeconfig"
    inside.start(
        "controller-manager",
        [
            str(programs["kube-controller-manager"]),
            *_as(controllers),
            *_UNTHROTTLED,
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={plan.pods}",
            f"--service-cluster-ip-range={plan.services}",
            "--leader-elect=false",
        ],
    )
    inside.start(
        "scheduler",
        [
            str(programs["kube-scheduler"]),
            *_as(plan.state / "scheduler.kubeconfig"),
            *_UNTHROTTLED,
            "--leader-elect=false",
        ],
    )
    inside.start(
        "provisioner",
        [sys.executable, "-m", "tests.cluster.provisioner", plan.api, str(plan.state)],
        {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _as(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]
