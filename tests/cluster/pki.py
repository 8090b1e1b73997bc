"""The cluster's certificates: one authority, one certificate for each role, made anew for each start.

Elliptic keys, because an RSA key costs a tenth of a second each and there are ten.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.plan import CLUSTER_DOMAIN, NODE, Plan

_DAYS = "365"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def make(plan: Plan) -> None:
    """Write ``pki/*.crt``, ``pki/*.key`` and one kubeconfig a role below the cluster's state folder."""
    folder = plan.state / "pki"
    folder.mkdir()
    _openssl(
        "req",
        "-x509",
        *_CURVE,
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        _DAYS,
        "-subj",
        "/CN=test-ca",
        cwd=folder,
    )
    api = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "localhost",
    ]
    names = [*(f"DNS:{name}" for name in api), f"IP:{plan.api_service}", f"IP:{plan.node_ip}", "IP:127.0.0.1"]
    roles: list[tuple[str, str, Sequence[str]]] = [
        ("apiserver", "/CN=kube-apiserver", names),
        ("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", ()),
        ("front-proxy", "/CN=front-proxy", ()),
        ("admin", "/O=system:masters/CN=admin", ()),
        ("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", [f"DNS:{NODE}", f"IP:{plan.node_ip}"]),
        ("controller-manager", "/CN=system:kube-controller-manager", ()),
        ("scheduler", "/CN=system:kube-scheduler", ()),
        ("proxy", "/CN=system:kube-proxy", ()),
    ]
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(_certificate, folder, *role) for role in roles]:
            done.result()
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-accounts.key", cwd=folder)
    _openssl("ec", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub", cwd=folder)
    for role in ("admin", "kubelet", "controller-manager", "scheduler", "proxy"):
        _kubeconfig(plan, role)


def _certificate(folder: Path, name: str, subject: str, alternatives: Sequence[str]) -> None:
    extensions = ["extendedKeyUsage=clientAuth,serverAuth"]
    if alternatives:
        extensions.append("subjectAltName=" + ",".join(alternatives))
    (folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
    _openssl("req", *_CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject, cwd=folder)
    _openssl(
        *(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAserial",
            f"{name}.srl",
            "-CAcreateserial",
        ),
        *("-out", f"{name}.crt", "-days", _DAYS, "-extfile", f"{name}.ext"),
        cwd=folder,
    )


def _kubeconfig(plan: Plan, role: str) -> None:
    pki = plan.state / "pki"
    cluster = {"server": plan.api, "certificate-authority-data": _base64(pki / "ca.crt")}
    user = {"client-certificate-data": _base64(pki / f"{role}.crt"), "client-key-data": _base64(pki / f"{role}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": plan.name, "cluster": cluster}],
        "users": [{"name": role, "user": user}],
        "contexts": [{"name": plan.name, "context": {"cluster": plan.name, "user": role}}],
        "current-context": plan.name,
    }
    path = plan.state / f"{role}.kubeconfig"
    path.touch(mode=0o600)
    # JSON is YAML, and every reader of kubeconfigs takes it.
    path.write_text(json.dumps(config, indent=1))


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
