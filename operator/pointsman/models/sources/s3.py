"""`s3://`: a key, or all keys below a prefix.

`obstore` knows S3: it lists, finds the credentials of the pod's identity, and signs. The bytes come by signed URLs
through our own downloader. Each request carries the object's ETag (`If-Match`): an object that is replaced under a pull
ends it, instead of becoming half of a model.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from pointsman.api.sources.s3 import S3Source
from pointsman.models.auth import Fixed
from pointsman.models.blob import Blob, File
from pointsman.models.choosing import is_safe
from pointsman.models.errors import PullError, PullReason
from pointsman.models.origin import BlobStream, PassingFailure, Resolved
from pointsman.models.requests import Requests
from pointsman.models.secret_folder import SecretFolder
from pointsman.models.threads import in_thread

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

T = TypeVar("T")
_IDENTITY = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
_SIGNED_FOR = timedelta(hours=1)
_API_SECONDS = 20
_STATUS = re.compile(r"status code: (\d{3})")


class S3Origin:
    """`FolderOrigin` of a bucket."""

    def __init__(self, client: httpx.AsyncClient, source: S3Source, secret: SecretFolder) -> None:
        """Raises `PullError` (BadConfiguration)."""
        self._client = client
        self._source = source
        self._endpoint = secret.value("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL").rstrip("/")
        self._config = self._configuration(secret)
        self._authorities = secret.text("ca.crt")
        self._store: S3Store | None = None
        self._etags: dict[str, str] = {}

    async def resolve(self) -> Resolved:
        """The objects, their sizes and ETags. Raises `PullError`."""
        if self._source.file:
            meta = await in_thread(self._ask, self._head)
            return Resolved((File(self._source.file, self._blob(meta)),), single=True)
        prefix = self._source.key + "/"
        metas = await in_thread(self._ask, self._list)
        named = [(meta["path"].removeprefix(prefix), meta) for meta in metas if meta["size"]]
        files = tuple(File(name, self._blob(meta)) for name, meta in named if is_safe(name))
        if not files:
            raise PullError(
                PullReason.UNKNOWN_MODEL,
                f"The bucket {self._source.bucket} has nothing below {prefix} ; check the name.",
            )
        return Resolved(files)

    @asynccontextmanager
    async def open(self, blob: Blob, start: int, end: int) -> AsyncIterator[BlobStream]:
        """By range. Raises `PullError`."""
        url = httpx.URL(await in_thread(self._ask, lambda store: self._signed(store, blob.where)))
        requests = Requests(
            self._client, url, Fixed(url), lambda _: self._denied("signature"), plain_http=url.scheme == "http"
        )
        etag = self._etags.get(blob.where, "")
        headers = {"If-Match": etag} if etag else {}
        async with requests.open_range(url, blob.size, start, end, headers, _unchanged(blob, etag)) as stream:
            yield stream

    def _blob(self, meta: ObjectMeta) -> Blob:
        etag = meta["e_tag"] or ""
        self._etags[meta["path"]] = etag
        version = etag or str(meta["last_modified"])
        identity = f"s3 {self._endpoint} {self._source.bucket} {meta['path']} {version}"
        return Blob(size=meta["size"], identity=identity, where=meta["path"])

    def _configuration(self, secret: SecretFolder) -> dict[str, Any]:
        key, word = secret.value("AWS_ACCESS_KEY_ID"), secret.value("AWS_SECRET_ACCESS_KEY")
        if bool(key) != bool(word):
            raise PullError(
                PullReason.BAD_CONFIGURATION,
                "Of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is there; the Secret needs both.",
            )
        config: dict[str, Any] = {"region": secret.value("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"}
        if self._endpoint:
            config["endpoint"] = self._endpoint
        if key:
            config |= {"access_key_id": key, "secret_access_key": word}
            if session := secret.value("AWS_SESSION_TOKEN"):
                config["session_token"] = session
        elif not any(secret.value(name) for name in _IDENTITY):
            config["skip_signature"] = True
        return config

    def _ask(self, ask: Callable[[S3Store], T]) -> T:
        """Blocking. Raises `PullError`."""
        from obstore import exceptions

        try:
            if self._store is None:
                self._store = self._made()
            return ask(self._store)
        except FileNotFoundError:
            raise self._unknown() from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise self._denied("credentials") from None
        except (exceptions.BaseError, ValueError) as error:
            raise self._failure(str(error)) from None

    def _made(self) -> S3Store:
        from obstore.store import S3Store

        options: dict[str, Any] = {
            "allow_http": self._endpoint.startswith("http://"),
            "timeout": timedelta(seconds=_API_SECONDS),
            "connect_timeout": timedelta(seconds=10),
        }
        if self._authorities:
            options["root_certificate"] = self._authorities
        retries: Any = {"max_retries": 0}
        return S3Store(self._source.bucket, config=self._config, client_options=options, retry_config=retries)  # type: ignore[arg-type]

    def _head(self, store: S3Store) -> ObjectMeta:
        import obstore

        return obstore.head(store, self._source.key)

    def _list(self, store: S3Store) -> list[ObjectMeta]:
        import obstore

        return [meta for chunk in obstore.list(store, self._source.key) for meta in chunk]

    def _signed(self, store: S3Store, key: str) -> str:
        import obstore

        if self._config.get("skip_signature"):
            base = self._endpoint or f"https://s3.{self._config['region']}.amazonaws.com"
            return f"{base}/{self._source.bucket}/{key}"
        return obstore.sign(store, "GET", key, _SIGNED_FOR)

    def _unknown(self) -> PullError:
        return PullError(
            PullReason.UNKNOWN_MODEL,
            f"There is no {self._source}; check the bucket, the key, and AWS_REGION and AWS_ENDPOINT_URL.",
        )

    def _denied(self, what: str) -> PullError:
        if self._config.get("skip_signature"):
            advice = "it is not public; give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by secretRef"
        else:
            advice = f"the {what} given are refused; check the keys, AWS_REGION and what they may read"
        return PullError(PullReason.ACCESS_DENIED, f"S3 refuses access to {self._source}: {advice}.")

    def _failure(self, text: str) -> PullError:
        """`text` is the library's, and may hold a signed URL: it is looked at, not shown."""
        place = self._endpoint or "Amazon S3"
        status = _STATUS.search(text)
        if "<Code>NoSuchBucket" in text:
            return self._unknown()
        if status and status[1] in ("401", "403", "404"):  # some servers answer 404 to keys that they do not know
            return self._denied("credentials")
        if "certificate" in text.lower():
            return PullError(
                PullReason.UNTRUSTED_CERTIFICATE,
                f"The certificate of {place} is not trusted; give ca.crt in the Secret.",
            )
        if "error sending request" in text or "timed out" in text or "connect" in text.lower():
            return PassingFailure(
                PullReason.REGISTRY_UNREACHABLE,
                f"Cannot reach {place}; check AWS_ENDPOINT_URL, network policies and the proxy settings.",
            )
        return PassingFailure(
            PullReason.REGISTRY_ERROR, f"{place} does not answer as S3 does; check AWS_ENDPOINT_URL and AWS_REGION."
        )


def _unchanged(blob: Blob, etag: str) -> Callable[[httpx.Response], None]:
    def check(response: httpx.Response) -> None:
        if etag and response.headers.get("etag", etag) != etag:
            raise _changed(blob)

    return check


def _changed(blob: Blob) -> PullError:
    return PullError(
        PullReason.REGISTRY_ERROR, f"{blob.where} was changed while it was pulled; the next try begins anew."
    )
