"""`pointsman test MODEL`: asks the model through the gateway, as a client does, and measures the answer."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import click

from pointsman.cli.output import EXIT_NOT_READY, console, milliseconds, print_json
from pointsman.cli.place import Options, Place, error_message, options, run


@dataclass(frozen=True)
class Measured:
    """What one streamed answer was."""

    model: str
    ok: bool
    backend: str = ""
    backend_model: str = ""
    attempts: int = 0
    first_token_ms: float | None = None
    total_ms: float = 0.0
    tokens: int | None = None
    """Completion tokens, as the backend counted them; None when it did not."""
    tokens_per_second: float | None = None
    answer: str = ""
    error: str = ""


@click.command(short_help="Asks a model and measures the answer.")
@click.argument("model")
@click.option("--prompt", default="Say hello in one short sentence.", show_default=True)
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=64, show_default=True)
@options
def test(opts: Options, model: str, prompt: str, max_tokens: int) -> None:
    """Asks MODEL through the gateway and measures first token, tokens a second, attempts and who answered."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found = run(opts, lambda place: measure(place, model, json.dumps(body).encode()))
    if opts.as_json:
        print_json(asdict(found))
    else:
        _show(found)
    if not found.ok:
        sys.exit(EXIT_NOT_READY)


def _show(m: Measured) -> None:
    out = console()
    if not m.ok:
        out.print(f"{m.model}: [red]no answer[/red] after {milliseconds(m.total_ms)}")
        out.print(m.error, markup=False)
        return
    out.print(m.answer.strip(), markup=False)
    speed = f", {m.tokens_per_second:.1f} tokens/s" if m.tokens_per_second else ""
    counted = f", {m.tokens} tokens" if m.tokens is not None else ""
    out.print(
        f"[green]{m.model}[/green] answered by {m.backend} ({m.backend_model}), attempt {m.attempts}:"
        f" first token {milliseconds(m.first_token_ms)}, whole answer {milliseconds(m.total_ms)}{counted}{speed}"
    )


async def measure(place: Place, model: str, body: bytes) -> Measured:
    """Sends one streamed chat request and reads it to its end."""
    started = time.perf_counter()
    first: float | None = None
    text: list[str] = []
    tokens: int | None = None
    error = ""

    def since(t: float) -> float:
        return (t - started) * 1000

    async with place.chat(body) as answer:
        if answer.status >= 400:
            return Measured(
                model=model, ok=False, total_ms=since(time.perf_counter()), error=error_message(await answer.text())
            )
        async for line in answer.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            frame = json.loads(line[6:])
            if "error" in frame:
                error = str(frame["error"].get("message", frame["error"]))
                break
            piece = _piece(frame)
            if piece:
                first = first or time.perf_counter()
                text.append(piece)
            if frame.get("usage"):
                tokens = frame["usage"].get("completion_tokens")
        ended = time.perf_counter()
        headers = answer.headers
    speed = (tokens - 1) / (ended - first) if tokens and tokens > 1 and first and ended > first else None
    return Measured(
        model=model,
        ok=not error and bool(text),
        backend=headers.get("x-pointsman-backend", ""),
        backend_model=headers.get("x-pointsman-model", ""),
        attempts=int(headers.get("x-pointsman-attempts", 0)),
        first_token_ms=since(first) if first else None,
        total_ms=since(ended),
        tokens=tokens,
        tokens_per_second=speed,
        answer="".join(text),
        error=error or ("" if text else "the answer was empty"),
    )


def _piece(frame: dict[str, Any]) -> str:
    """Text or reasoning of a frame's choices."""
    out = ""
    for choice in frame.get("choices") or ():
        delta = choice.get("delta") or {}
        out += delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""
    return out
