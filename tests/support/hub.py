"""A small Hugging Face Hub: what `huggingface_hub` asks for, and the bytes behind redirects to another host.

    hub = Hub(); hub.add("org/model", {"config.json": b"{}", "model.safetensors": Path(…)}, lfs=("model.safetensors",))
    with hub: … HF_ENDPOINT=hub.endpoint …; hub.bytes_served

As on the Hub: `/api/models/<repo>/revision/<revision>?blobs=True` tells commit, sizes, git oids and the sha256 of files
in LFS; `/<repo>/resolve/<commit>/<path>` gives small files itself and redirects to another host for the others, whose
signature holds for a while only; a gated repository shows its metadata to all and its files to those who may.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.support.served import Server, send_file


@dataclass
class Repo:
    """A repository: its files at each commit, and its branches."""

    commits: dict[str, dict[str, Path]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    lfs: tuple[str, ...] = ()
    gated: bool = False
    private: bool = False


class Hub(Server):
    """The server, in a thread of its own while used as a context manager."""

    def __init__(
        self, root: Path, *, rate: float = 0, port: int = 0, bind: str = "127.0.0.1", cdn: str = "localhost"
    ) -> None:
        """`root` is where small files are kept, `cdn` the name of the other host, which is this one."""
        super().__init__(rate=rate, port=port, bind=bind)
        self.root = root
        self.cdn = cdn
        self.repos: dict[str, Repo] = {}
        self.tokens: dict[str, str] = {}
        """Token → what it may read: `all`, or `public`."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(
        self,
        name: str,
        files: dict[str, bytes | Path],
        *,
        lfs: tuple[str, ...] = (),
        branch: str = "main",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """A new commit on a branch, with exactly these files; returns the commit."""
        repo = self.repos.setdefault(name, Repo())
        repo.lfs, repo.gated, repo.private = lfs, gated, private
        commit = hashlib.sha1(f"{name} {len(repo.commits)}".encode()).hexdigest()
        paths = {}
        for path, content in files.items():
            if isinstance(content, bytes):
                target = self.root / commit / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                content = target
            paths[path] = content
        repo.commits[commit] = paths
        repo.branches[branch] = commit
        return commit

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/models/{org}/{name}/revision/{revision}", self._info),
            web.get("/{org}/{name}/resolve/{revision}/{path:.+}", self._resolve),
            web.get("/cdn/{digest}", self._cdn),
        ]

    def _repo(self, request: web.Request) -> Repo | web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        repo = self.repos.get(f"{request.match_info['org']}/{request.match_info['name']}")
        if token and token not in self.tokens:
            return _error(401, "", "Invalid credentials in Authorization header")
        if repo is None or (repo.private and self.tokens.get(token) != "all"):
            # The Hub says 401 to strangers, so that nobody learns which private repositories there are.
            return _error(404 if token else 401, "RepoNotFound", "Repository not found")
        return repo

    def _commit(self, repo: Repo, request: web.Request) -> str | web.Response:
        revision = request.match_info["revision"]
        commit = repo.branches.get(revision, revision)
        return commit if commit in repo.commits else _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    async def _info(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        if self.faults.api_status:
            return web.Response(status=self.faults.api_status)
        repo = self._repo(request)
        if isinstance(repo, web.Response):
            return repo
        commit = self._commit(repo, request)
        if isinstance(commit, web.Response):
            return commit
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        siblings = [_sibling(path, file, path in repo.lfs) for path, file in repo.commits[commit].items()]
        return web.json_response(
            {"id": name, "modelId": name, "sha": commit, "gated": "manual" if repo.gated else False, "private": False,
             "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        )  # fmt: skip

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo = self._repo(request)
        if isinstance(repo, web.Response):
            return repo
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and self.tokens.get(token) != "all":
            return _error(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        commit = self._commit(repo, request)
        if isinstance(commit, web.Response):
            return commit
        path = request.match_info["path"]
        file = repo.commits[commit].get(path)
        if file is None:
            return _error(404, "EntryNotFound", "Entry not found")
        self.note(request)
        if path in repo.lfs:
            location = f"http://{self.cdn}:{self.port}/cdn/{_sha256(file)}?X-Signature={self.signature}"
            return web.Response(status=302, headers={"Location": location, "X-Linked-Size": str(file.stat().st_size)})
        return await send_file(self, request, file)

    async def _cdn(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("X-Signature") != self.signature:
            return web.Response(status=403, text="the signature has expired")
        for repo in self.repos.values():
            for files in repo.commits.values():
                for path, file in files.items():
                    if path in repo.lfs and _sha256(file) == request.match_info["digest"]:
                        return await send_file(self, request, file)
        return web.Response(status=404)


_digests: dict[tuple[Path, int], str] = {}


def _sha256(file: Path) -> str:
    key = (file, file.stat().st_mtime_ns)
    if key not in _digests:
        with file.open("rb") as opened:
            _digests[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _digests[key]


def _sibling(path: str, file: Path, lfs: bool) -> dict[str, Any]:
    size = file.stat().st_size
    if not lfs:
        oid = hashlib.sha1(f"blob {size}\0".encode() + file.read_bytes()).hexdigest()
        return {"rfilename": path, "size": size, "blobId": oid}
    digest = _sha256(file)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    oid = hashlib.sha1(f"blob {len(pointer)}\0{pointer}".encode()).hexdigest()
    return {
        "rfilename": path,
        "size": size,
        "blobId": oid,
        "lfs": {"sha256": digest, "size": size, "pointerSize": len(pointer)},
    }


def _error(status: int, code: str, message: str) -> web.Response:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return web.json_response({"error": message}, status=status, headers=headers)
