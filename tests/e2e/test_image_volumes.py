"""`storage.mode: Image` in the cluster: a real kubelet and containerd pull, keep and mount models that are images."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import buildah, images
from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines
from tests.e2e.waiting import fresh, until
from tests.support import tiny_model
from tests.support.oci_registry import DockerRegistry
from tests.support.ports import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "models-as-images.md"
# The word is `sesame`.
HTPASSWD = "reader:$2b$04$I8fK2Yrt1bZTt4YLt7lQCO4OTzTKgFE1GFkwJoa6J3Qbg5yRY8RNi\n"
DOWNLOAD = re.compile(r"GET /v2/demo/\S+/blobs/")


class Registry(DockerRegistry):
    """On this machine, for the cluster's node."""

    def __init__(self, stage: Stage, root: Path, *, htpasswd: str = "") -> None:
        super().__init__(root, free_port(), bind="0.0.0.0", htpasswd=htpasswd)
        self.name = f"{stage.cluster.environment()['HOST_NAME']}:{self.port}"
        """As the node calls it."""
        stage.cluster.allow_plain_http(self.name)

    def downloads(self) -> int:
        return sum(bool(DOWNLOAD.match(line)) for line in self.asked())


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    here.cluster.load_image(images.LLAMA_CPP)
    scene = replace(here, namespace=fresh("image-volumes"))
    scene.make_namespace()
    yield scene
    scene.remove_namespace()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    (folder / "models").mkdir()
    file = folder / "models" / "qwen.gguf"
    tiny_model.write(file, layers=4, ffn=2816, chat_template=engines.TEMPLATE)
    return file


@pytest.fixture(scope="module")
def shelf(scene: Stage, gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(scene, tmp_path_factory.mktemp("registry")) as serving:
        pushed(serving, gguf, "demo/qwen:1")
        serving.push("demo/artefact", "1", [({"mediaType": "application/octet-stream"}, gguf.read_bytes())])
        yield serving


def pushed(shelf: Registry, gguf: Path, name: str, *credentials: str) -> None:
    """An image with the model below `/models`, built and pushed as a user would."""
    container = buildah.run("from", "scratch").strip()
    tag = f"localhost/{fresh('image-volumes')}:1"
    try:
        buildah.run("add", "--quiet", container, str(gguf.parent.parent), "/")
        buildah.run("commit", "--quiet", "--rm", container, tag)
        buildah.run("push", "--quiet", "--tls-verify=false", *credentials, tag, f"docker://{shelf.host}/{name}")
    finally:
        buildah.run("rmi", "--force", tag)


def backend(name: str, source: str, **more: Any) -> dict[str, Any]:
    """The one of the how-to page, less what is this cluster's."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (shown,) = (b for b in yaml.safe_load_all(block) if b["kind"] == "LLMBackend")
    assert shown["spec"]["storage"] == {"mode": "Image"}
    assert shown["spec"].pop("imagePullSecrets")
    shown["metadata"]["name"] = name
    shown["spec"]["models"][0]["source"] = source
    shown["spec"] |= {"image": images.LLAMA_CPP, "drainSeconds": 1, **more}
    return dict(shown)


def model(scene: Stage, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(scene.get("pmb", name)["status"].get("models", ())), {})
    return found


def test_a_wrong_name_is_in_ready_and_the_right_one_answers(scene: Stage, shelf: Registry, gguf: Path) -> None:
    engines.apply(
        scene, backend("one", f"oci://{shelf.name}/demo/qwen:nobody"), engines.route("chat", ("one", "qwen3-1.7b"))
    )
    said = engines.wait_reason(scene, "one", "UnknownModel")
    assert f"{shelf.name}/demo/qwen:nobody cannot be pulled by the node" in said["message"]
    assert "check its name, tag and digest" in said["message"]
    engines.apply(scene, backend("one", f"oci://{shelf.name}/demo/qwen:1"))
    scene.wait_ready("llmbackend/one", 120)
    scene.wait_ready("modelroute/chat")
    assert (model(scene, "one")["state"], model(scene, "one")["sizeBytes"]) == ("Pulled", gguf.stat().st_size)
    with scene.gateway() as url:
        assert engines.streamed(url, "chat") == (ANSWER, "one")


def test_another_backend_on_the_node_downloads_nothing(scene: Stage, shelf: Registry) -> None:
    before = shelf.downloads()
    assert before > 0, "the log shows downloads"
    engines.apply(
        scene,
        backend("two", f"oci://{shelf.name}/demo/qwen:1", replicas=2),
        engines.route("second", ("two", "qwen3-1.7b")),
    )
    until(lambda: scene.get("pmb", "two").get("status", {}).get("readyReplicas") == 2, "both pods are ready", 120)
    scene.wait_ready("modelroute/second")
    with scene.gateway() as url:
        assert engines.streamed(url, "second") == (ANSWER, "two")
    assert shelf.downloads() == before
    assert not json.loads(scene.kubectl("get", "jobs,pvc", "-o", "json"))["items"]


def test_the_node_keeps_it_when_all_pods_are_gone_and_so_is_the_registry(scene: Stage, shelf: Registry) -> None:
    of_the_model = "pointsman.dev/backend in (one,two)"
    for name in ("one", "two"):
        scene.kubectl("patch", "pmb", name, "--type=merge", "-p", '{"spec":{"replicas":0}}')
    until(
        lambda: not json.loads(scene.kubectl("get", "pods", "-l", of_the_model, "-o", "json"))["items"],
        "no pod mounts the image",
        120,
    )
    with shelf.stopped():
        scene.kubectl("patch", "pmb", "one", "--type=merge", "-p", '{"spec":{"replicas":1}}')
        until(lambda: scene.get("pmb", "one")["status"].get("readyReplicas") == 1, "it starts without a registry", 120)
        scene.wait_ready("llmbackend/one")


def test_an_artefact_that_is_no_image_is_named_before_the_server_starts(scene: Stage, shelf: Registry) -> None:
    engines.apply(scene, backend("artefact", f"oci://{shelf.name}/demo/artefact:1"))
    said = engines.wait_reason(scene, "artefact", "NotAModel")
    assert "push it as an image, or use storage.mode Shared or PerPod" in said["message"]
    pods = json.loads(scene.kubectl("get", "pods", "-l", "pointsman.dev/backend=artefact", "-o", "json"))["items"]
    assert [c["restartCount"] for pod in pods for c in pod["status"]["containerStatuses"]] == [0]
    engines.apply(scene, backend("artefact", f"oci://{shelf.name}/demo/qwen:1/qwen.gguf"))
    scene.wait_ready("llmbackend/artefact", 120)
    scene.kubectl("delete", "pmb/artefact", "--wait=true", timeout=120)


def test_an_image_of_others_needs_a_secret(scene: Stage, gguf: Path, tmp_path: Path) -> None:
    with Registry(scene, tmp_path, htpasswd=HTPASSWD) as closed:
        pushed(closed, gguf, "demo/qwen:1", "--creds=reader:sesame")
        source = f"oci://{closed.name}/demo/qwen:1"
        engines.apply(scene, backend("closed", source))
        said = engines.wait_reason(scene, "closed", "AccessDenied")
        assert "name a Secret with its credentials in imagePullSecrets" in said["message"]
        key = {"auths": {closed.name: {"auth": base64.b64encode(b"reader:sesame").decode()}}}
        literal = f"--from-literal=.dockerconfigjson={json.dumps(key)}"
        scene.kubectl("create", "secret", "generic", "pulls", "--type=kubernetes.io/dockerconfigjson", literal)
        engines.apply(scene, backend("closed", source, imagePullSecrets=[{"name": "pulls"}]))
        scene.wait_ready("llmbackend/closed", 120)
        scene.kubectl("delete", "pmb/closed", "--wait=true", timeout=120)
