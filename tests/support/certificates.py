"""An authority of a test's own, and the certificates that it signs: made by openssl, valid for two days."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
NAMES = "DNS:engine.test,IP:127.0.0.1"


class Authority:
    """`folder` must exist; `pem` is the certificate that others must trust."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        _openssl(
            folder, "req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip

    @property
    def pem(self) -> str:
        return (self._folder / f"{self._name}.pem").read_text()

    def server(self, name: str, alternatives: str = NAMES, *, expired: bool = False) -> ssl.SSLContext:
        """The context of a server with a certificate of this authority."""
        file = f"{self._name}-{name}"
        _openssl(self._folder, "req", *_CURVE, "-subj", f"/CN={name}", "-keyout", f"{file}.key", "-out", f"{file}.csr")
        (self._folder / f"{file}.ext").write_text(f"subjectAltName={alternatives}\n")
        _openssl(
            self._folder, "x509", "-req", "-in", f"{file}.csr", "-CA", f"{self._name}.pem",
            "-CAkey", f"{self._name}.key", "-CAcreateserial", "-out", f"{file}.pem", "-extfile", f"{file}.ext",
            "-days", "-1" if expired else "2",
        )  # fmt: skip
        return self._context(file)

    def client(self, name: str) -> dict[str, str]:
        """A client's certificate and key, as a Secret of type kubernetes.io/tls holds them."""
        self.server(name, "DNS:client.test")
        file = self._folder / f"{self._name}-{name}"
        return {"tls.crt": file.with_suffix(".pem").read_text(), "tls.key": file.with_suffix(".key").read_text()}

    def wants_clients(self, *, tls12: bool = False) -> ssl.SSLContext:
        """A server that lets in clients of this authority only."""
        context = self.server("strict")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.pem)
        if tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def self_signed(self) -> tuple[ssl.SSLContext, str]:
        """A server that signed its own certificate, and that certificate."""
        _openssl(
            self._folder, "req", "-x509", *_CURVE, "-days", "2", "-subj", "/CN=alone",
            "-addext", f"subjectAltName={NAMES}", "-keyout", "alone.key", "-out", "alone.pem",
        )  # fmt: skip
        return self._context("alone"), (self._folder / "alone.pem").read_text()

    def _context(self, file: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        return context


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(("openssl", *arguments), cwd=folder, check=True, capture_output=True)
