"""`pointsman test`: asks a model as a client does, and measures the answer, several at once, and a long prompt.

Decided here: whom it asks. A model's name goes through the gateway; `--backend` goes to a pod of that backend, past
the gateway; `--url` to any server that speaks OpenAI's chat API.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import aiohttp
import click

from pointsman.api import meta
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.ollama import OllamaSource, served_name
from pointsman.api.sources.source import parse_source
from pointsman.cli.measuring import Ask, Context, Load, Measured, measure, measure_context, measure_load
from pointsman.cli.output import EXIT_NOT_READY, console, milliseconds, print_json
from pointsman.cli.place import Options, Place, Unanswered, options, run


@dataclass(frozen=True)
class Wanted:
    """What to measure."""

    model: str | None
    backend: str | None
    url: str | None
    key: str
    prompt: str
    max_tokens: int
    runs: int
    at_once: int
    context: int | None


@click.command(short_help="Asks a model and measures the answer.")
@click.argument("model", required=False)
@click.option("--backend", metavar="NAME", help="Asks a ready pod of this LLMBackend, past the gateway.")
@click.option("--url", metavar="URL", help="Asks this server of OpenAI's chat API: http://127.0.0.1:8000/v1.")
@click.option("--api-key-env", metavar="VARIABLE", help="The environment variable with the key for --url.")
@click.option("--prompt", default="Say hello in one short sentence.", show_default=True)
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=64, show_default=True)
@click.option("--runs", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Requests after the first.")
@click.option("--at-once", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Of these, at a time.")
@click.option("--context-length", type=click.IntRange(1, 100_000_000), help="Sends a prompt of so many tokens too.")
@options
def test(
    opts: Options,
    model: str | None,
    backend: str | None,
    url: str | None,
    api_key_env: str | None,
    prompt: str,
    max_tokens: int,
    runs: int,
    at_once: int,
    context_length: int | None,
) -> None:
    """Asks MODEL through the gateway and measures first token, tokens a second, attempts and who answered.

    With --backend the model is the backend's first unless MODEL says another. With --runs, what more requests are like;
    with --context-length, whether a prompt of that length is read whole. Exit code 1 when something failed.
    """
    if backend is not None and url is not None:
        raise click.UsageError("--backend and --url are two places: give one")
    if model is None and backend is None:
        raise click.UsageError("name the MODEL, or a --backend")
    if backend is not None and opts.local:
        raise click.UsageError("--backend needs a cluster: remove --admin and --gateway, or give the server's --url")
    key = ""
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "")
        if url is None or not key:
            raise click.UsageError(f"--api-key-env needs --url, and a value in ${api_key_env}")
    if runs == 1 and at_once > 1:
        raise click.UsageError("--at-once needs --runs")
    wanted = Wanted(model, backend, url, key, prompt, max_tokens, runs, at_once, context_length)
    if url is not None:
        opts = replace(opts, gateway=url)  # no cluster is needed
    first, load, context = run(opts, partial(_measure, wanted))
    if opts.as_json:
        more = {"load": asdict(load) if load else None, "context": asdict(context) if context else None}
        print_json({**asdict(first), **{k: v for k, v in more.items() if v}})
    else:
        _show(first, load, context)
    if not first.ok or (load is not None and load.failed) or (context is not None and not context.ok):
        sys.exit(EXIT_NOT_READY)


async def _measure(wanted: Wanted, place: Place) -> tuple[Measured, Load | None, Context | None]:
    ask, model = await _whom(wanted, place)
    first = await measure(ask, model, wanted.prompt, wanted.max_tokens)
    first = replace(first, backend=first.backend or wanted.backend or "")
    load = context = None
    if first.ok and wanted.runs > 1:
        load = await measure_load(ask, model, wanted.prompt, wanted.max_tokens, wanted.runs, wanted.at_once)
    if first.ok and wanted.context is not None:
        context = await measure_context(ask, model, wanted.context)
    return first, load, context


async def _whom(wanted: Wanted, place: Place) -> tuple[Ask, str]:
    """How to ask, and for which model."""
    if wanted.url is not None:
        headers = {"Authorization": f"Bearer {wanted.key}"} if wanted.key else {}
        base = wanted.url.rstrip("/")
        return partial(_post, place.session, f"{base}/chat/completions", headers), wanted.model or ""
    if wanted.backend is None:
        return place.chat, wanted.model or ""
    base, model = await _pod(place, wanted.backend, wanted.model)
    return partial(_post, place.session, f"{base}/v1/chat/completions", {}), model


@asynccontextmanager
async def _post(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes
) -> AsyncIterator[aiohttp.ClientResponse]:
    async with session.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as answer:
        yield answer


async def _pod(place: Place, name: str, model: str | None) -> tuple[str, str]:
    """A ready pod of the backend, through the API server, and what its engine calls the model."""
    found = next((b for b in await place.list(meta.BACKEND_PLURAL) if b["metadata"]["name"] == name), None)
    if found is None:
        raise Unanswered(f"there is no LLMBackend {name} in namespace {place.namespace}")
    if found["spec"]["engine"] == "External":
        raise Unanswered(f"{name} runs elsewhere: give its --url, or the name of a model that a route sends to it")
    names = [m["name"] for m in found["spec"]["models"]]
    if model is not None and model not in names:
        raise Unanswered(f"{name} has no model {model}, but {', '.join(names)}")
    model = model or names[0]
    assert place.connection is not None
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    pods = await place.connection.request("GET", path, params={"labelSelector": f"{meta.BACKEND_LABEL}={name}"})
    for pod in pods["items"]:
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in (pod.get("status") or {}).get("conditions") or ()
        )
        ports = [p for c in pod["spec"]["containers"] for p in c.get("ports") or () if p.get("name") == "http"]
        if ready and ports:
            base = f"{place.connection.server}{path}/{pod['metadata']['name']}:{ports[0]['containerPort']}/proxy"
            return base, _called(found, model)
    raise Unanswered(f"no pod of {name} is ready: kubectl -n {place.namespace} get pmb {name} shows why")


def _called(backend: dict[str, Any], model: str) -> str:
    """What the engine calls the model: Ollama serves each digest under a name of its own."""
    spec = next(m for m in backend["spec"]["models"] if m["name"] == model)
    status: dict[str, Any] = next(
        (m for m in (backend.get("status") or {}).get("models") or () if m["name"] == model), {}
    )
    try:
        source = parse_source(spec.get("source") or "")
        return served_name(source, status.get("digest", "")) if isinstance(source, OllamaSource) else model
    except (SourceError, ValueError):
        return model


def _show(m: Measured, load: Load | None, context: Context | None) -> None:
    out = console()
    if not m.ok:
        out.print(f"{m.model}: [red]no answer[/red] after {milliseconds(m.total_ms)}")
        out.print(m.error, markup=False)
        return
    out.print(m.answer.strip(), markup=False)
    by = f" answered by {m.backend}" if m.backend else " answered"
    if m.backend_model:
        by += f" ({m.backend_model}), attempt {m.attempts}"
    out.print(
        f"[green]{m.model}[/green]{by}: first token {milliseconds(m.first_token_ms)}, whole answer"
        f" {milliseconds(m.total_ms)}{_count(m.tokens)}{_speed(m.tokens_per_second)}"
    )
    if load is not None:
        failed = f", [red]{load.failed} failed[/red]" if load.failed else ""
        at_once = f", {load.at_once} at once" if load.at_once > 1 else ""
        together = f", {load.all_tokens_per_second:.1f} together" if load.all_tokens_per_second else ""
        out.print(
            f"{load.requests} more{at_once}: first token {milliseconds(load.first_token_ms)} (worst"
            f" {milliseconds(load.worst_first_token_ms)}){_speed(load.tokens_per_second)}{together}{failed}"
        )
        if load.error:
            out.print(load.error, markup=False)
    if context is not None and context.ok:
        recalled = "its first word came back" if context.recalled else "its first word did not come back"
        out.print(
            f"context: [green]{context.counted} tokens[/green] were read whole, first token"
            f" {milliseconds(context.first_token_ms)}{_speed(context.tokens_per_second)} read; {recalled}"
        )
    elif context is not None:
        out.print(f"context of {context.asked} tokens: [red]failed[/red]")
        out.print(context.error, markup=False)


def _count(tokens: int | None) -> str:
    return f", {tokens} tokens" if tokens is not None else ""


def _speed(tokens_per_second: float | None) -> str:
    return f", {tokens_per_second:.1f} tokens/s" if tokens_per_second else ""
