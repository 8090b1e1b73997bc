"""Which errand a source needs: the one place that knows all schemes of a pull."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from pointsman.api.sources.hf import HfSource
from pointsman.api.sources.ollama import OllamaSource
from pointsman.api.sources.source import Source
from pointsman.models.auth import Credentials, credentials_of
from pointsman.models.errand import Errand
from pointsman.models.folder_errand import FolderErrand
from pointsman.models.layouts.folder import FolderLayout
from pointsman.models.layouts.ollama import OllamaLayout
from pointsman.models.ollama_errand import OllamaErrand
from pointsman.models.origin import FolderOrigin
from pointsman.models.registry import Registry
from pointsman.models.retry import Clockwork, RetryPolicy
from pointsman.models.secret_folder import SecretFolder


def errand_for(
    source: Source,
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
) -> Errand:
    """Raises `PullError` (BadConfiguration)."""
    credentials = credentials_of(secret) if credentials.anonymous else credentials
    if isinstance(source, OllamaSource):
        registry = Registry(client, source.base_url, source.repository, credentials, plain_http=source.plain_http)
        return OllamaErrand(source, pin, OllamaLayout(store), registry, policy, clockwork, never_refresh=never_refresh)
    origin = _origin(source, client, trust, credentials, secret)
    return FolderErrand(source, pin, FolderLayout(store), origin, policy, clockwork, never_refresh=never_refresh)


def _origin(
    source: HfSource, client: httpx.AsyncClient, trust: ssl.SSLContext, credentials: Credentials, secret: SecretFolder
) -> FolderOrigin:
    match source:
        case HfSource():
            from pointsman.models.sources.hf import HfOrigin

            token = credentials.token or secret.value("token", "HF_TOKEN", "hf_token")
            return HfOrigin(client, source, endpoint=secret.value("HF_ENDPOINT"), token=token, trust=trust)
