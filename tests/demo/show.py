"""The show itself, step by step: pull, answer, break, answer all the same, and the story that status tells."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.cluster import images, programs
from tests.demo import load, stage
from tests.demo.narrator import Narrator
from tests.demo.stage import Stage

REGISTRY_RATE = 12_000_000
"""Bytes a second for each connection: slow enough to see the pull's progress."""


def run(name: str) -> None:
    """The whole demo. Leaves the cluster up, to look around."""
    tell = Narrator()
    with tell.step("Programs: a Kubernetes control plane, kubelet, Ollama (built once, then cached)"):
        programs.ensure(programs.USUAL)
    with tell.step("Images: Pointsman and Ollama, built without a daemon"):
        for tag in (stage.POINTSMAN_IMAGE, stage.OLLAMA_IMAGE):
            tell.say(f"{tag}  {images.archive_of(tag).stat().st_size / 1e6:.0f} MB")
    with tell.step("Cluster: one node, real API server, scheduler, kubelet, containerd"):
        cluster = stage.up(name)
        tell.say(cluster.kubectl("get", "nodes", "-o", "wide"))
    with tell.step("Images into the cluster"):
        stage.load_images(cluster)
    with tell.step("A model registry on this machine, with a tiny model whose answer is known"):
        stage.publish_models(stage.folder())
        stage.note_registry(stage.start_registry(stage.folder(), stage.REGISTRY_PORT, REGISTRY_RATE))
    with tell.step("helm install pointsman charts/pointsman"):
        stage.install(cluster)
        tell.say(cluster.kubectl("-n", stage.SYSTEM, "get", "pods"))
    here = Stage(cluster, stage.registry_host(cluster))
    here.make_namespace()
    with tell.step("kubectl apply: two LLMBackends; each pulls the model into its own volume"):
        tell.say((stage.MANIFESTS / "backends.yaml").read_text().replace("${REGISTRY}", here.registry_host))
        here.apply("backends.yaml")
        with watching(here, tell):
            here.wait_ready("llmbackend/first")
            here.wait_ready("llmbackend/second")
    with tell.step("kubectl apply: a ModelRoute, `chat`, with both as targets"):
        here.apply("routes.yaml")
        here.wait_ready("modelroute/chat")
        here.wait_ready("modelroute/ticker")
        tell.say(here.pointsman("status"))
    with here.gateway() as url:
        asyncio.run(_break_it(here, tell, url))
    with tell.step("The first backend comes back, and traffic returns to it"):
        here.wait_ready("llmbackend/first")
        tell.say(here.pointsman("status"))
        tell.say(here.pointsman("explain", "chat"))
    tell.done()
    _look_around(tell, here)


async def _break_it(here: Stage, tell: Narrator, url: str) -> None:
    with tell.step("An unmodified openai client streams an answer"):
        async with load.client(url) as api:
            seen = await load.ask(api, "chat", stream=True)
        tell.say(f"{seen.text.strip()!r} from backend {seen.backend}, {seen.seconds * 1000:.0f} ms")
        if stage.ANSWER not in seen.text:
            raise RuntimeError(f"that is not the model's answer: {seen}")
    with tell.step("Under load, with a stream under way, the first backend's pod is killed"):
        under_way, results = await kill_under_load(here, url, lambda: look(here, tell))
        tell.say("")
        tell.say(summary(under_way, results))


def look(here: Stage, tell: Narrator) -> None:
    """What the resources and the gateway say, as long as the first backend's pod is away."""
    for command in (["explain", "chat"], ["status"]):
        tell.say(f"$ pointsman {' '.join(command)}")
        tell.say(here.pointsman(*command, check=False))
    tell.say("$ kubectl get pmb,pmr")
    tell.say(here.kubectl("get", "pmb,pmr"))


async def kill_under_load(
    here: Stage, url: str, meanwhile: Callable[[], None] = lambda: None
) -> tuple[load.Seen, list[load.Seen]]:
    """Kills the first backend's pod while four clients ask and one long stream is under way from it, and does
    `meanwhile` at once after it.

    Returns the long stream and every request of the load, those before the kill included.
    """
    engine = "pointsman.dev/backend=first,app.kubernetes.io/component=engine"
    traffic = load.Load(url, "chat")
    traffic.start()
    await traffic.until(20)
    async with load.client(url) as api:
        begun = asyncio.Event()
        long_stream = asyncio.create_task(load.ask(api, "ticker", stream=True, max_tokens=400, begun=begun))
        async with asyncio.timeout(30):
            await begun.wait()
        await asyncio.to_thread(here.kubectl, "delete", "pod", "-l", engine, "--force", "--grace-period=0")
        await asyncio.to_thread(meanwhile)
        await traffic.until(40)
        return await long_stream, await traffic.stop()


def summary(under_way: load.Seen, results: list[load.Seen]) -> str:
    """The numbers that matter, in words."""
    by_backend = {b: sum(r.backend == b for r in results) for b in sorted({r.backend for r in results})}
    failed = [r for r in results if r.failed_before_content]
    broken = [r for r in results if r.broken_midway]
    lines = [
        f"{len(results)} requests under load: {len(failed)} failed before their answer began,"
        f" {len(broken)} streams broke after it, answered by {by_backend}",
        f"slowest {max(r.seconds for r in results) * 1000:.0f} ms",
        f"the long stream from {under_way.backend} ended with: {under_way.error or 'its whole answer'}",
    ]
    return "\n".join(lines + [f"failed: {r.error}" for r in failed])


class watching:  # noqa: N801  used as a with statement's verb
    """`kubectl get pmb -w` beside what is done inside, its lines told as they come."""

    def __init__(self, here: Stage, tell: Narrator) -> None:
        self._here, self._tell = here, tell

    def __enter__(self) -> None:
        kubectl = programs.ensure(["kubectl"])["kubectl"]
        environment = {**os.environ, **self._here.cluster.environment()}
        self._watch = subprocess.Popen(
            [kubectl, "-n", self._here.namespace, "get", "pmb", "-w"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._watch.stdout is not None
        for line in self._watch.stdout:
            self._tell.say(line)

    def __exit__(self, *_: object) -> None:
        self._watch.terminate()
        self._watch.wait()
        self._reader.join()


def _look_around(tell: Narrator, here: Stage) -> None:
    relative = Path(os.path.relpath(here.cluster.kubeconfig, Path.cwd()))
    kubeconfig = here.cluster.kubeconfig if relative.parts[:1] == ("..",) else relative
    tell.say(
        f"""
Look around:
  eval "$(uv run python -m tests.cluster env)"      # KUBECONFIG={kubeconfig}, kubectl and helm on the PATH
  kubectl -n {here.namespace} get pmb,pmr,pods
  uv run pointsman status -n {here.namespace}
  uv run pointsman test chat -n {here.namespace}
  uv run pointsman explain chat -n {here.namespace}
Take it away again:
  make demo-down"""
    )
