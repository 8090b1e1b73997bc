"""Which errand a source needs: the one place that knows all schemes of a pull."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from pointsman.api.sources.hf import HfSource
from pointsman.api.sources.https import HttpsSource
from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.ollama import OllamaSource
from pointsman.api.sources.s3 import S3Source
from pointsman.models.auth import Credentials, credentials_of, registry_credentials
from pointsman.models.errand import Errand
from pointsman.models.folder_errand import FolderErrand
from pointsman.models.layouts.folder import FolderLayout
from pointsman.models.layouts.ollama import OllamaLayout
from pointsman.models.ollama_errand import OllamaErrand
from pointsman.models.origin import FolderOrigin
from pointsman.models.registry import Registry
from pointsman.models.retry import Clockwork, RetryPolicy
from pointsman.models.secret_folder import SecretFolder
from pointsman.models.sources.hf import HfOrigin
from pointsman.models.sources.https import HttpsOrigin
from pointsman.models.sources.oci import OciOrigin
from pointsman.models.sources.s3 import S3Origin

PulledSource = OllamaSource | HfSource | HttpsSource | S3Source | OciSource
"""What a pull fetches: all sources but `pvc://`."""


def errand_for(
    source: PulledSource,
    pin: str | None,
    store: Path,
    client: httpx.AsyncClient,
    trust: ssl.SSLContext,
    credentials: Credentials,
    secret: SecretFolder,
    policy: RetryPolicy,
    clockwork: Clockwork,
    *,
    never_refresh: bool = False,
    verify: bool = False,
) -> Errand:
    """Raises `PullError` (BadConfiguration)."""
    credentials = credentials_of(secret) if credentials.anonymous else credentials
    if isinstance(source, OllamaSource):
        registry = Registry(client, source.base_url, source.repository, credentials, plain_http=source.plain_http)
        return OllamaErrand(source, pin, OllamaLayout(store), registry, policy, clockwork, never_refresh=never_refresh)
    origin = _origin(source, pin, client, trust, credentials, secret)
    layout = FolderLayout(store)
    return FolderErrand(source, pin, layout, origin, policy, clockwork, never_refresh=never_refresh, verify=verify)


def _origin(
    source: HfSource | HttpsSource | S3Source | OciSource,
    pin: str | None,
    client: httpx.AsyncClient,
    trust: ssl.SSLContext,
    credentials: Credentials,
    secret: SecretFolder,
) -> FolderOrigin:
    match source:
        case HfSource():
            token = credentials.token or secret.value("token", "HF_TOKEN", "hf_token")
            return HfOrigin(client, source, endpoint=secret.value("HF_ENDPOINT"), token=token, trust=trust)
        case HttpsSource():
            return HttpsOrigin(client, source, credentials, pinned=bool(pin))
        case S3Source():
            return S3Origin(client, source, secret)
        case OciSource():
            shown = registry_credentials(secret, source.host) if credentials.anonymous else credentials
            return OciOrigin(client, source, pin, shown)
