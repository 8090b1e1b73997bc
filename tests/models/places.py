"""One model of random bytes in each kind of place that a pull can be of, with a count of what left it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.counted import Counted
from tests.support.files_server import FilesServer
from tests.support.hub import Hub
from tests.support.oci_registry import DockerRegistry
from tests.support.ports import free_port
from tests.support.registry import TinyRegistry, publish
from tests.support.s3 import KEY, S3, WORD
from tests.support.served import Pace

KINDS = ("ollama", "hf", "oci", "s3", "https")


@dataclass
class Place:
    """A source that serves one model."""

    source: str
    served: Callable[[], int]
    """Bytes that left it."""
    pace: Pace
    """How fast it serves; may be changed."""
    restart: Callable[[], None]
    """Ends the server, breaking off what is under way, and starts it again on the same port."""
    env: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@contextmanager
def place(kind: str, model: Path, root: Path, rate: float = 0) -> Iterator[Place]:
    """`model` (a `.gguf`) served by this kind of source, at `rate` bytes a second; 0: as fast as it goes."""
    root.mkdir(parents=True, exist_ok=True)
    match kind:
        case "ollama":
            publish(root, "demo/noise:1", model)
            with TinyRegistry(root, mode="redirect", rate=rate) as registry:
                source = f"ollama+http://{registry.host}/demo/noise:1"
                yield Place(source, lambda: registry.bytes_served, registry.pace, registry.restart)
        case "hf":
            hub = Hub(root, rate=rate)
            hub.add("acme/noise", {"model.gguf": model}, lfs=("model.gguf",))
            with hub:
                env = {"HF_ENDPOINT": hub.endpoint}
                yield Place("hf://acme/noise/model.gguf", lambda: hub.bytes_served, hub.pace, hub.restart, env)
        case "https":
            with model.open("rb") as file:
                digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
            with FilesServer(model.parent, rate=rate) as files:
                source = f"{files.base}/{model.name}"
                pin = ("--digest", digest)
                yield Place(source, lambda: files.bytes_served, files.pace, files.restart, options=pin)
        case "s3":
            server = S3(root, free_port())
            with server, Counted("127.0.0.1", server.port, rate=rate) as proxy:
                server.put("models", "model.gguf", model)
                env = {
                    "AWS_ACCESS_KEY_ID": KEY,
                    "AWS_SECRET_ACCESS_KEY": WORD,
                    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
                }
                yield Place("s3://models/model.gguf", lambda: proxy.bytes_served, proxy.pace, server.restart, env)
        case _:
            oci = DockerRegistry(root, free_port())
            with oci, Counted("127.0.0.1", oci.port, rate=rate) as proxy:
                oci.push_file("team/noise", "1", "model.gguf", model)
                source = f"oci+http://127.0.0.1:{proxy.port}/team/noise:1"
                yield Place(source, lambda: proxy.bytes_served, proxy.pace, oci.restart)
