"""Gateways for the kit to be aimed at: ours as a process, with its two backends at the given ports."""

from __future__ import annotations

from pathlib import Path

NAMES = tuple(f"chat-{n}" for n in range(8))
SECONDS = 1.0
"""When it gives up on a silent backend."""


def manifests(folder: Path, *ports: int, fallback: str = "{}") -> Path:
    """Eight names for the same two backends: what is remembered of a model holds up only one of them."""
    documents = []
    for backend, port in zip("ab", ports, strict=True):
        models = "".join(f"  - {{name: {name}}}\n" for name in NAMES)
        documents.append(
            f"apiVersion: pointsman.dev/v1alpha1\nkind: LLMBackend\nmetadata: {{name: {backend}}}\nspec:\n"
            f"  engine: External\n  external: {{url: 'http://127.0.0.1:{port}/v1'}}\n  models:\n{models}"
            "  probe: {interval: 200ms, timeout: 5s}\n"
        )
    timeouts = f"{{connect: 5s, firstToken: {SECONDS:g}s, answer: {SECONDS:g}s, idle: {SECONDS:g}s, total: 20s}}"
    for name in NAMES:
        documents.append(
            f"apiVersion: pointsman.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\nspec:\n"
            f"  models: [{name}]\n  timeouts: {timeouts}\n  fallback: {fallback}\n  targets:\n"
            f"  - {{backend: a, model: {name}, priority: 0}}\n  - {{backend: b, model: {name}, priority: 1}}\n"
        )
    (folder / "all.yaml").write_text("---\n".join(documents))
    return folder
