"""Credentials of a registry: who gets which, and how a token is asked for.

Rules:
- Only the registry's own origin (scheme, host, port) gets an `Authorization` header from us; a redirect target never.
- User and password go to the registry itself (Basic), or to the token service that the registry names in its own 401
  (the Docker token protocol), and there only over TLS, unless the registry itself is spoken to in plain text.
- A ready token is sent to the registry as `Bearer` from the first request on.
- Nothing here is ever part of an error, a log line or a report.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from pointsman.models.errors import PullError, PullReason
from pointsman.models.secret_folder import SecretFolder

_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_MAX_SECRET_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """What may be shown to the registry. All empty: anonymous."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def anonymous(self) -> bool:
        """True when there is nothing to show."""
        return not (self.username or self.token)

    @property
    def basic(self) -> str:
        """The value of a Basic `Authorization` header, empty without a user."""
        if not self.username:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


def read_credentials(
    username: str | None = None, password_file: Path | None = None, token_file: Path | None = None
) -> Credentials:
    """Secrets come from files, so that no process list shows them. Raises `PullError` (BadConfiguration)."""
    if token_file and (username or password_file):
        raise PullError(PullReason.BAD_CONFIGURATION, "Give either a token or a user with a password, not both.")
    if bool(username) != bool(password_file):
        raise PullError(PullReason.BAD_CONFIGURATION, "A user name and a password file belong together; give both.")
    return Credentials(
        username=username or "",
        password=_read_secret(password_file) if password_file else "",
        token=_read_secret(token_file) if token_file else "",
    )


def credentials_of(secret: SecretFolder) -> Credentials:
    """What the keys `token`, or `username` and `password`, say. Raises `PullError` (BadConfiguration)."""
    token, username, password = secret.value("token"), secret.value("username"), secret.value("password")
    if bool(username) != bool(password):
        raise PullError(
            PullReason.BAD_CONFIGURATION, "The Secret has a username or a password without the other; give both."
        )
    return Credentials(token=token) if token else Credentials(username, password)


def registry_credentials(secret: SecretFolder, host: str) -> Credentials:
    """What a Secret of type `kubernetes.io/dockerconfigjson` has for this registry; anonymous when it has nothing.

    Raises `PullError` (BadConfiguration).
    """
    text = secret.text(".dockerconfigjson")
    if not text:
        return ANONYMOUS
    try:
        entries = json.loads(text).get("auths", {})
        entry = next((v for k, v in entries.items() if _registry_of(k) == host), None)
        if entry is None:
            return ANONYMOUS
        username, password = entry.get("username", ""), entry.get("password", "")
        if not username and entry.get("auth"):
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except (ValueError, AttributeError):
        raise PullError(
            PullReason.BAD_CONFIGURATION, "The key .dockerconfigjson of the Secret cannot be read; make it anew."
        ) from None
    return Credentials(str(username), str(password))


def _registry_of(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            secret = file.read(_MAX_SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise PullError(
            PullReason.BAD_CONFIGURATION, f"Cannot read the credential file {path}; check that the Secret is mounted."
        ) from None
    if not secret or not secret.isprintable():
        raise PullError(
            PullReason.BAD_CONFIGURATION, f"The credential file {path} is empty or holds more than one line."
        )
    return secret


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 401 asks for."""

    scheme: str
    """`bearer`, `basic`, or something we do not speak."""
    realm: str = ""
    service: str = ""
    scope: str = ""


def read_challenge(header: str) -> Challenge:
    """Reads one `WWW-Authenticate` value (RFC 9110 §11.6.1, parameters of the Docker token protocol)."""
    scheme, _, rest = header.strip().partition(" ")
    values = {key.lower(): value for key, value in _PARAMETER.findall(rest)}
    return Challenge(scheme.lower(), values.get("realm", ""), values.get("service", ""), values.get("scope", ""))


class Authorizer:
    """Holds the `Authorization` value that the registry accepts at the moment."""

    def __init__(self, registry: httpx.URL, repository: str, credentials: Credentials) -> None:
        self._registry = registry
        self._repository = repository
        self._credentials = credentials
        self._value = f"Bearer {credentials.token}" if credentials.token else ""

    def header_for(self, url: httpx.URL) -> dict[str, str]:
        """The header for a request to this URL; none for any other origin than the registry's."""
        return {"Authorization": self._value} if self._value and same_origin(url, self._registry) else {}

    async def answer(self, client: httpx.AsyncClient, challenge: Challenge) -> bool:
        """Gets what the challenge asks for; False when there is nothing (more) to show.

        Raises `PullError` (AccessDenied) when the token service refuses, and `httpx.TransportError`.
        """
        if self._credentials.token:
            return False
        if challenge.scheme == "basic" and self._credentials.basic and self._value != self._credentials.basic:
            self._value = self._credentials.basic
            return True
        if challenge.scheme != "bearer" or not challenge.realm:
            return False
        self._value = f"Bearer {await self._token(client, challenge)}"
        return True

    async def _token(self, client: httpx.AsyncClient, challenge: Challenge) -> str:
        realm = httpx.URL(challenge.realm)
        secure = realm.scheme == "https" or (realm.scheme == "http" and self._registry.scheme == "http")
        if not secure or realm.userinfo:
            raise PullError(
                PullReason.ACCESS_DENIED, "The registry names a token service without TLS, to which nothing is sent."
            )
        query = {"scope": challenge.scope or f"repository:{self._repository}:pull"}
        if challenge.service:
            query["service"] = challenge.service
        headers = {"Authorization": self._credentials.basic} if self._credentials.basic else {}
        response = await client.get(realm.copy_merge_params(query), headers=headers, follow_redirects=False)
        if response.status_code in (400, 401, 403, 404):
            raise denied(self._credentials)
        if response.status_code != 200:
            raise PullError(PullReason.REGISTRY_ERROR, f"The registry's token service answered {response.status_code}.")
        try:
            answer = response.json()
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isprintable():
            raise PullError(PullReason.REGISTRY_ERROR, "The registry's token service answered without a token.")
        return token


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Same scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def denied(credentials: Credentials) -> PullError:
    """The one sentence for every refused access."""
    if credentials.anonymous:
        advice = "it needs credentials, or it does not exist"
    else:
        advice = "the credentials given do not allow it; check them and what their account may read"
    return PullError(PullReason.ACCESS_DENIED, f"The registry refuses access to this model: {advice}.")


class Fixed:
    """Shows one value to one origin from the first request on; there is nothing more to show."""

    def __init__(self, base: httpx.URL, value: str = "") -> None:
        self._base = base
        self._headers = {"Authorization": value} if value else {}

    def header_for(self, url: httpx.URL) -> dict[str, str]:
        """The header for a request to this URL; none for any other origin."""
        return self._headers if same_origin(url, self._base) else {}

    async def answer(self, client: httpx.AsyncClient, challenge: Challenge) -> bool:
        """No."""
        return False
