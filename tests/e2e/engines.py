"""What the tests of the engines share: a Hub with tiny models, resources, and hands that break what runs.

Processes are broken from outside of their pods: the first process of a container does not die by its own hands.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.cluster.plan import state_folder
from tests.demo.stage import ANSWER, Stage
from tests.e2e.waiting import until
from tests.support import tiny_llama, tiny_model
from tests.support.hub import Hub

GGUF = "demo/tiny-GGUF"
LLAMA = "demo/tiny-llama"
ADAPTER = "demo/tiny-lora"
"""For `LLAMA`: with it the answer is " tick tock tick …"."""
LONG = "demo/tiny-long"
"""As `LLAMA`, but for contexts that take 8 KiB a token."""
SECRET = "hub"
PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "engines"
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"


@contextmanager
def hub(scene: Stage, root: Path) -> Iterator[Hub]:
    """A Hub for the pods, with a GGUF file and a repository; its address is in a Secret, as a mirror's is."""
    gguf = root / "tiny.gguf"
    tiny_model.write(gguf, layers=4, ffn=2816, chat_template=TEMPLATE)
    llama = root / "llama"
    tiny_llama.write(llama, layers=4, ffn=8192)
    tiny_llama.write_adapter(root / "lora", ffn=8192)
    tiny_llama.write(root / "long", layers=32, context=1 << 18)
    host = scene.cluster.environment()["HOST_NAME"]
    with Hub(root / "hub", bind="0.0.0.0", cdn=scene.cluster.host_ip) as serving:
        serving.add(GGUF, {"tiny.gguf": gguf, "README.md": b"# Tiny"}, lfs=("tiny.gguf",))
        serving.add(LLAMA, {p.name: p for p in llama.iterdir()}, lfs=("model.safetensors",))
        serving.add(ADAPTER, {p.name: p for p in (root / "lora").iterdir()}, lfs=("adapter_model.safetensors",))
        serving.add(LONG, {p.name: p for p in (root / "long").iterdir()}, lfs=("model.safetensors",))
        literals = [f"--from-literal=HF_ENDPOINT=http://{host}:{serving.port}"]
        scene.kubectl("create", "secret", "generic", SECRET, *literals)
        yield serving


def backend(name: str, engine: str, model: str, source: str, **spec: Any) -> dict[str, Any]:
    """An LLMBackend with one model of the Hub."""
    whole = {
        "engine": engine,
        "models": [{"name": model, "source": source, "secretRef": {"name": SECRET}, **spec.pop("of_model", {})}],
        "storage": {"size": "1Gi"},
        "probe": {"interval": "1s", "generation": {"interval": "5s", "timeout": "3s"}},
        "drainSeconds": 1,
        **spec,
    }
    return {
        "apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": {"name": name}, "spec": whole,
    }  # fmt: skip


def from_page(page: str, shown_as: str, name: str, model: str, source: str, **spec: Any) -> dict[str, Any]:
    """The backend of a YAML block of an engine's page, less what is this cluster's: its size, and where models and
    images are. `shown_as`: its name on the page."""
    text = (PAGES / f"{page}.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    bodies = [body for block in blocks for body in yaml.safe_load_all(block)]
    (shown,) = (b["spec"] for b in bodies if (b["kind"], b["metadata"]["name"]) == ("LLMBackend", shown_as))
    (of_model,) = shown.pop("models")
    given = {k: v for k, v in of_model.items() if k not in ("name", "source")} | spec.pop("of_model", {})
    return backend(
        name, shown.pop("engine"), model, source, **{**shown, "storage": {"size": "1Gi"}, **spec}, of_model=given
    )


def ollama(scene: Stage, name: str = "ollama") -> dict[str, Any]:
    """The backend to fall back on."""
    source = f"ollama+http://{scene.registry_host}/demo/tiny:1"
    body = backend(name, "Ollama", "tiny", source)
    del body["spec"]["models"][0]["secretRef"]
    return body


def route(name: str, *targets: tuple[str, str]) -> dict[str, Any]:
    """(backend, model) in the order in which they are tried."""
    spec = {
        "models": [name],
        "targets": [{"backend": b, "model": m, "priority": n} for n, (b, m) in enumerate(targets)],
        "timeouts": {"connect": "2s", "firstToken": "3s", "answer": "5s", "idle": "3s", "total": "60s"},
    }
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": name}, "spec": spec}


def apply(scene: Stage, *items: dict[str, Any]) -> None:
    scene.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def ask(url: str, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 16, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=90)


def answered_by(url: str, model: str) -> str:
    """Who gave the known answer."""
    got = ask(url, model)
    assert got.status_code == 200, got.text
    assert got.json()["choices"][0]["message"]["content"].strip() == ANSWER
    return got.headers["x-pointsman-backend"]


def streamed(url: str, model: str) -> tuple[str, str]:
    """The text of a streamed answer, and who gave it."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=90) as got:
        assert got.status_code == 200, got.read()
        lines = [line.removeprefix("data: ") for line in got.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [c["delta"].get("content") or "" for line in lines[:-1] for c in json.loads(line)["choices"]]
    return "".join(deltas).strip(), got.headers["x-pointsman-backend"]


def served_by(url: str, model: str, name: str, seconds: float = 60) -> None:
    """Waits until a backend answers several times in a row: through every gateway."""
    until(lambda: all(answered_by(url, model) == name for _ in range(6)), f"{name} answers {model}", seconds)


def condition(scene: Stage, name: str, kind: str = "Ready") -> dict[str, str]:
    status = scene.get("pmb", name).get("status", {})
    found: dict[str, str] = next((c for c in status.get("conditions", ()) if c["type"] == kind), {})
    return found


def wait_reason(scene: Stage, name: str, reason: str, seconds: float = 90) -> dict[str, str]:
    """The condition Ready once it has that reason."""

    def there() -> dict[str, str] | None:
        found = condition(scene, name)
        return found if found.get("reason") == reason else None

    try:
        return until(there, f"Ready of {name} says {reason}", seconds) or {}
    except AssertionError as error:
        raise AssertionError(f"{error}; Ready is {condition(scene, name)}") from None


def health(scene: Stage, name: str) -> str:
    state: str = scene.get("pmb", name).get("status", {}).get("health", {}).get("state", "")
    return state


def processes(*words: str) -> list[int]:
    """The processes of this machine, those of pods among them, whose command line has all of these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """They stand still: connections are taken by the kernel, and nothing is said."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGCONT)


def volume(scene: Stage, claim: str) -> Path:
    """The folder of a volume, on this machine."""
    name = scene.kubectl("get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}").strip()
    path = json.loads(scene.cluster.kubectl("get", "pv", name, "-o", "json"))["spec"]["local"]["path"]
    found = Path(path)
    return found if found.exists() else state_folder(scene.cluster.name) / "volumes" / found.name


def restart(scene: Stage, name: str) -> None:
    """Its pods are made anew."""
    selector = f"pointsman.dev/backend={name},app.kubernetes.io/component=engine"
    scene.kubectl("delete", "pods", "-l", selector, "--force", "--grace-period=0")
