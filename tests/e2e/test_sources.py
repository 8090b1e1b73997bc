"""Every source in real pods: what is wrong with it stands in `Ready`; mended, a real server answers from what came.

The servers run on this machine: a Hub, an S3 server, an OCI registry, nginx with a certificate of its own authority.
What is wrong at first: of `hf://` and `s3://` the Secret, of `https://` the pin; of `oci://` and `pvc://` nothing is
there yet.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import images
from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines
from tests.e2e.waiting import fresh
from tests.support import tiny_model
from tests.support.certificates import Authority
from tests.support.hub import Hub
from tests.support.nginx import Nginx
from tests.support.oci_registry import DockerRegistry
from tests.support.ports import free_port
from tests.support.s3 import KEY, S3, WORD

SCHEMES = ("hf", "s3", "oci", "https", "pvc")
TOKEN = "hf_may-read-all"
CHECKPOINT, GGUFS = "s3://models/team/checkpoint", "s3://models/team/ggufs"
SMALL = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"


@dataclass
class Scene:
    stage: Stage
    registry: DockerRegistry
    gguf: Path
    sources: dict[str, str]

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.gguf.read_bytes()).hexdigest()

    def secret(self, name: str, **keys: str) -> None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}
        self.stage.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def backend(self, scheme: str, **of_model: Any) -> dict[str, Any]:
        """The backend of a source, named by its scheme; its Secret has the same name."""
        body = engines.backend(
            scheme, "LlamaCpp", scheme, self.sources[scheme], image=images.LLAMA_CPP, resources=SMALL,
            of_model={"contextLength": 512, "secretRef": {"name": scheme}, **of_model},
        )  # fmt: skip
        if scheme in ("oci", "pvc"):
            del body["spec"]["models"][0]["secretRef"]
        return body

    def ask_again(self, scheme: str) -> None:
        self.stage.kubectl("annotate", f"pmb/{scheme}", f"pointsman.dev/reconcile-at={os.getpid()}")


@pytest.fixture(scope="module")
def scene(here: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All servers, and a backend for each source, all wrong."""
    here.cluster.load_image(images.LLAMA_CPP)
    stage = replace(here, namespace=fresh("sources"))
    stage.make_namespace()
    root = tmp_path_factory.mktemp("sources")
    gguf = root / "www" / "tiny.gguf"
    gguf.parent.mkdir()
    tiny_model.write(gguf, chat_template=TEMPLATE)
    host = stage.cluster.environment()["HOST_NAME"]
    authority = Authority(root, "own")
    authority.server("web", f"DNS:{host},IP:{stage.cluster.host_ip}")
    everywhere = "0.0.0.0"
    with ExitStack() as running:
        hub = running.enter_context(Hub(root / "hub", bind=everywhere, cdn=stage.cluster.host_ip))
        s3 = running.enter_context(S3(root / "s3", free_port(), everywhere))
        registry = running.enter_context(DockerRegistry(root / "oci", free_port(), everywhere))
        port = free_port()
        certificate = (root / "own-web.pem", root / "own-web.key")
        running.enter_context(Nginx(gguf.parent, root, port, *certificate, everywhere))
        hub.add("team/gated", {"tiny.gguf": gguf}, lfs=("tiny.gguf",), gated=True)
        hub.tokens[TOKEN] = "all"
        s3.put("models", "team/tiny.gguf", gguf)
        s3.put("models", "team/checkpoint/config.json", b"{}")
        s3.put("models", "team/ggufs/tiny.gguf", gguf)
        made = Scene(stage, registry, gguf, {
            "hf": "hf://team/gated/tiny.gguf",
            "s3": "s3://models/team/tiny.gguf",
            "oci": f"oci+http://{host}:{registry.port}/team/tiny:1",
            "https": f"https://{host}:{port}/tiny.gguf",
            "pvc": "pvc://own/models/tiny.gguf",
        })  # fmt: skip
        made.secret("hf", HF_ENDPOINT=f"http://{host}:{hub.port}", token="hf_nobody")
        made.secret("s3", AWS_ENDPOINT_URL=f"http://{host}:{s3.port}", AWS_ACCESS_KEY_ID=KEY,
                    AWS_SECRET_ACCESS_KEY="wrong")  # fmt: skip
        made.secret("https", **{"ca.crt": authority.pem})
        wrong = {"https": {"digest": "sha256:" + "0" * 64}}
        engines.apply(
            stage,
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "own"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
            *(made.backend(scheme, **wrong.get(scheme, {})) for scheme in SCHEMES),
            *(engines.route(scheme, (scheme, scheme)) for scheme in SCHEMES),
        )  # fmt: skip
        yield made
    stage.remove_namespace()


@pytest.mark.parametrize(
    ("scheme", "reason", "words"),
    [
        ("hf", "AccessDenied", ("token",)),
        ("s3", "AccessDenied", ("s3://models/team/tiny.gguf", "refused")),
        ("oci", "UnknownModel", ("team/tiny", "1")),
        ("https", "DigestMismatch", ("sha256:" + "0" * 64,)),
        ("pvc", "UnknownModel", ("The claim own has no models/tiny.gguf",)),
    ],
)
def test_what_is_wrong_with_a_source_is_said(scene: Scene, scheme: str, reason: str, words: tuple[str, ...]) -> None:
    found = engines.wait_reason(scene.stage, scheme, reason, 180)
    assert found["status"] == "False"
    for word in (f"model {scheme}: ", *words):
        assert word in found["message"], found["message"]
    assert TOKEN not in found["message"]
    assert WORD not in found["message"]


def test_each_is_mended_and_answers_from_what_was_pulled(scene: Scene) -> None:
    """Of the Secrets only the Secret changes: nobody tells the operator."""
    stage = scene.stage
    stage.kubectl("patch", "secret", "hf", "-p", json.dumps({"stringData": {"token": TOKEN}}))
    stage.kubectl("patch", "secret", "s3", "-p", json.dumps({"stringData": {"AWS_SECRET_ACCESS_KEY": WORD}}))
    manifest = scene.registry.push_file("team/tiny", "1", "tiny.gguf", scene.gguf)
    scene.ask_again("oci")
    engines.apply(stage, scene.backend("https", digest=scene.digest))
    lies = engines.volume(stage, "own") / "models" / "tiny.gguf"
    lies.parent.mkdir()
    lies.write_bytes(scene.gguf.read_bytes())
    scene.ask_again("pvc")
    size = scene.gguf.stat().st_size
    for scheme in SCHEMES:
        stage.wait_ready(f"llmbackend/{scheme}", 180)
        (model,) = stage.get("pmb", scheme)["status"]["models"]
        digest = manifest if scheme == "oci" else scene.digest
        assert (model["state"], model["digest"], model["sizeBytes"]) == ("Pulled", digest, size), scheme
    with stage.gateway() as url:
        for scheme in SCHEMES:
            assert engines.streamed(url, scheme) == (ANSWER, scheme)


def test_a_model_in_a_claim_has_no_volume_beside_it(scene: Scene) -> None:
    claims = scene.stage.kubectl("get", "pvc", "-o", "name").split()
    assert "persistentvolumeclaim/pmb-pvc" not in claims
    assert {f"persistentvolumeclaim/{name}" for name in ("own", "pmb-hf", "pmb-s3")} <= set(claims)


@pytest.mark.parametrize(
    ("engine", "source", "words"),
    [
        ("LlamaCpp", CHECKPOINT, "holds no GGUF file, or several, and engine LlamaCpp reads one: write which"),
        ("VLLM", GGUFS, "has no config.json, and engine VLLM reads a folder with one"),
    ],
)
def test_what_its_engine_cannot_load_is_said_by_the_pulls_end(
    scene: Scene, engine: str, source: str, words: str
) -> None:
    name = engine.lower()
    of_model = {"secretRef": {"name": "s3"}}
    engines.apply(scene.stage, engines.backend(name, engine, name, source, replicas=0, of_model=of_model))
    found = engines.wait_reason(scene.stage, name, "NotAModel", 120)
    assert found["message"].startswith(f"model {name}: {source} {words}")
