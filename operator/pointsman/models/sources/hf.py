"""`hf://`: a repository of a Hugging Face Hub, or one file of it.

What a repository holds comes from `huggingface_hub`; the bytes come by plain HTTPS from `…/resolve/<commit>/<path>`
through our own downloader (docs/decisions/2026-11-22-our-own-downloads.md). A branch is resolved to a commit first,
and everything is asked for by that commit. Files in LFS or Xet are known by their sha256, the small ones by git's sha1.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from pointsman.api.sources.hf import HfSource
from pointsman.models.auth import Fixed
from pointsman.models.blob import Blob, File
from pointsman.models.choosing import gguf_parts, is_safe, model_files
from pointsman.models.errors import PullError, PullReason
from pointsman.models.origin import BlobStream, PassingFailure, Resolved
from pointsman.models.requests import Requests
from pointsman.models.threads import in_thread
from pointsman.models.transport import CONNECT_SECONDS

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

DEFAULT_ENDPOINT = "https://huggingface.co"
_API_SECONDS = 20.0
"""Below the grace of a pod: a pull that is stopped waits for an answer that is under way."""


class HfOrigin:
    """`FolderOrigin` of a Hub."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        source: HfSource,
        *,
        endpoint: str = "",
        token: str = "",
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`endpoint` is the Hub's or a mirror's address. Raises `PullError` (BadConfiguration)."""
        self._endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        base = httpx.URL(self._endpoint)
        if base.scheme not in ("https", "http") or not base.host:
            raise PullError(
                PullReason.BAD_CONFIGURATION, "HF_ENDPOINT is no address such as https://hub.example; correct it."
            )
        self._source = source
        self._token = token
        self._trust = trust
        self._commit = ""
        self._requests = Requests(
            client,
            base,
            Fixed(base, f"Bearer {token}" if token else ""),
            self._denied,
            plain_http=base.scheme == "http",
        )

    async def resolve(self) -> Resolved:
        """The commit's files that make the model. Raises `PullError`."""
        info = await in_thread(self._info)
        self._commit = info.sha or ""
        siblings = {s.rfilename: s for s in info.siblings or () if is_safe(s.rfilename)}
        single = gguf_parts(self._source.file) if self._source.file else ()
        chosen = single or model_files(list(siblings))
        missing = [path for path in chosen if path not in siblings]
        if missing:
            raise PullError(
                PullReason.UNKNOWN_MODEL,
                f"{self._source.repo} at {self._source.revision} has no file {missing[0]}; check its path.",
            )
        if not chosen:
            raise PullError(PullReason.NOT_A_MODEL, self._no_model(list(siblings)))
        files = tuple(File(path, self._blob(siblings[path])) for path in chosen)
        return Resolved(files, single=len(single) == 1)

    @asynccontextmanager
    async def open(self, blob: Blob, start: int, end: int) -> AsyncIterator[BlobStream]:
        """By range, redirects followed. Raises `PullError`."""
        url = httpx.URL(f"{self._endpoint}/{self._source.repo}/resolve/{self._commit}/{quote(blob.where)}")
        async with self._requests.open_range(url, blob.size, start, end) as stream:
            yield stream

    def _blob(self, sibling: RepoSibling) -> Blob:
        if sibling.size is None or not self._commit:
            raise PassingFailure(
                PullReason.REGISTRY_ERROR, f"{self._requests.host} does not tell sizes or commits; look at the mirror."
            )
        if sibling.lfs is not None:
            return Blob(size=sibling.size, digest=f"sha256:{sibling.lfs.sha256}", where=sibling.rfilename)
        oid = sibling.blob_id or ""
        identity = f"git {oid}" if oid else f"{self._source.repo} {self._commit} {sibling.rfilename}"
        return Blob(size=sibling.size, identity=identity, where=sibling.rfilename, git_oid=oid)

    def _info(self) -> ModelInfo:
        """Blocking. The library reads no token and no endpoint of its own: both are given."""
        import httpx2
        from huggingface_hub import HfApi, set_client_factory
        from huggingface_hub import errors as hub

        settings: dict[str, Any] = {"verify": self._trust} if self._trust else {}
        set_client_factory(
            lambda: httpx2.Client(
                follow_redirects=True, timeout=httpx2.Timeout(_API_SECONDS, connect=CONNECT_SECONDS), **settings
            )
        )
        api = HfApi(endpoint=self._endpoint, token=self._token or False)
        try:
            return api.model_info(self._source.repo, revision=self._source.revision, files_metadata=True)
        except hub.GatedRepoError:
            raise self._gated() from None
        except hub.RevisionNotFoundError:
            raise PullError(
                PullReason.UNKNOWN_MODEL,
                f"{self._source.repo} has no revision {self._source.revision}; name a branch, a tag or a commit.",
            ) from None
        except hub.HfHubHTTPError as error:
            raise self._refused(error.response) from None
        except httpx2.TransportError as error:
            raise self._requests.unreachable(str(error), timeout=isinstance(error, httpx2.TimeoutException)) from None

    def _refused(self, response: Any) -> PullError:
        status = response.status_code
        if status in (401, 403):
            return self._denied(response)
        if status == 404:
            return PullError(
                PullReason.UNKNOWN_MODEL,
                f"{self._requests.host} has no repository {self._source.repo}, or the token's account may not see it;"
                " check the name and the account.",
            )
        return PassingFailure(
            PullReason.REGISTRY_ERROR,
            f"{self._requests.host} answered {status}; it is tried again, but look at the Hub if this stays.",
        )

    def _denied(self, response: Any) -> PullError:
        """Of the Hub's own 401 or 403."""
        if response.headers.get("x-error-code") == "GatedRepo":
            return self._gated()
        if not self._token:
            advice = "it is private or does not exist; check the name, or give a token by secretRef"
        elif response.status_code == 401:
            advice = "the token is not valid, or the repository does not exist; check both"
        else:
            advice = "the token does not allow it; check what it may read"
        return PullError(
            PullReason.ACCESS_DENIED, f"{self._requests.host} refuses access to {self._source.repo}: {advice}."
        )

    def _gated(self) -> PullError:
        whose = "the token's account" if self._token else "an account"
        token = "" if self._token else ", and give a token of it by secretRef"
        return PullError(
            PullReason.ACCESS_DENIED,
            f"{self._source.repo} is gated: accept its licence with {whose} at"
            f" {self._endpoint}/{self._source.repo}{token}.",
        )

    def _no_model(self, paths: list[str]) -> str:
        ggufs = sorted(path for path in paths if path.endswith(".gguf"))
        if ggufs:
            return (
                f"{self._source.repo} holds GGUF files, of which one is wanted: name it, for instance"
                f" hf://{self._source.repo}/{ggufs[0]} ."
            )
        return f"{self._source.repo} at {self._source.revision} holds no weights that a server could load."
