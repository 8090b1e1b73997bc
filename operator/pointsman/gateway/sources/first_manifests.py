"""The text of a first file of manifests: valid as it stands, with comments that show what else there is. Pure."""

from __future__ import annotations

import json

import yaml

from pointsman.api import meta
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.gateway.sources.findings import PROBE_INTERVAL
from pointsman.gateway.sources.manifests import Manifests

HEAD = f"""\
# What Pointsman serves. Edit and save: a running gateway takes the change up by itself, and keeps the last good version
# while a file is wrong (`pointsman status --admin http://127.0.0.1:9090` shows what it sees).
#
# LLMBackend: a server and its models. ModelRoute: a name that clients ask for, and who may answer, in order.
# A server elsewhere, with its key:
#
#   apiVersion: {meta.API_VERSION}
#   kind: LLMBackend
#   metadata: {{name: hosted}}
#   spec:
#     engine: External
#     external: {{url: https://api.openai.com/v1, secretRef: {{name: openai}}}}
#     models: [{{name: gpt-4o-mini}}]
#   ---
#   apiVersion: v1
#   kind: Secret
#   metadata: {{name: openai}}
#   stringData: {{api-key: PUT-IT-HERE}}
"""

EXAMPLE = (
    HEAD
    + f"""\
---
apiVersion: {meta.API_VERSION}
kind: LLMBackend
metadata:
  name: ollama
spec:
  engine: External                       # a server that runs already; any that speaks OpenAI's API
  external:
    url: http://127.0.0.1:11434/v1       # Ollama; LM Studio: 1234, llama.cpp: 8080, vLLM: 8000
  models:
  - name: llama3.2                       # as the server calls it: `ollama list`
  probe: {{interval: {PROBE_INTERVAL}}}
---
apiVersion: {meta.API_VERSION}
kind: ModelRoute
metadata:
  name: chat
spec:
  models: [chat]                         # what clients put into "model"
  targets:
  - {{backend: ollama, model: llama3.2, priority: 0}}
  # - {{backend: hosted, model: gpt-4o-mini, priority: 1}}   # asked when the first cannot answer
"""
)


def text_of(manifests: Manifests) -> str:
    """YAML that reads back as `manifests`, which are as discovery made them."""
    parts = [HEAD]
    parts += [_backend(b) for b in manifests.backends.values()]
    routes = list(manifests.routes.values())
    parts += [_route(r) for r in routes]
    targets = [f"{{backend: {t.backend}, model: {_scalar(t.model)}, " for r in routes for t in r.spec.targets]
    lines = "\n".join(f"#   - {t}priority: {i}}}" for i, t in enumerate(dict.fromkeys(targets).keys()) if i < 3)
    parts.append(
        "# One name over several models: the next is asked when the one before cannot answer.\n"
        f"# apiVersion: {meta.API_VERSION}\n# kind: ModelRoute\n# metadata: {{name: chat}}\n# spec:\n"
        f"#   models: [chat]\n#   targets:\n{lines}\n"
    )
    return "---\n".join(parts)


def _backend(backend: LLMBackend) -> str:
    assert backend.spec.external is not None
    models = "".join(f"  - name: {_scalar(m.name)}\n" for m in backend.spec.models)
    return (
        f"apiVersion: {meta.API_VERSION}\nkind: {meta.BACKEND_KIND}\nmetadata:\n  name: {backend.meta.name}\nspec:\n"
        f"  engine: External\n  external:\n    url: {backend.spec.external.url}\n  models:\n{models}"
        f"  probe: {{interval: {backend.spec.probe.interval}}}\n"
    )


def _route(route: ModelRoute) -> str:
    names = ", ".join(_scalar(m) for m in route.spec.models)
    targets = "".join(
        f"  - {{backend: {t.backend}, model: {_scalar(t.model)}, priority: {t.priority}}}\n" for t in route.spec.targets
    )
    return (
        f"apiVersion: {meta.API_VERSION}\nkind: {meta.ROUTE_KIND}\nmetadata:\n"
        f"  name: {_scalar(route.meta.name)}\nspec:\n  models: [{names}]\n  targets:\n{targets}"
    )


def _scalar(text: str) -> str:
    """A name for YAML, in quotes where it needs them: `on` and `1.5` are names too. JSON's quoting is YAML's."""
    return text if yaml.safe_load(f"[{text}]") == [text] else json.dumps(text)
