"""Flags and variables that users hand to an engine past the fields of its block: none says twice what is said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pointsman.api.backend import LLMBackendSpec


def clash(words: Sequence[str], flags: Mapping[str, str], block: str) -> str | None:
    """What is wrong with `extraArgs`, in one sentence. `flags`: each flag of ours with the field that sets it, or
    nothing where Pointsman itself does."""
    for word in words:
        flag, _, _ = word.partition("=")
        field = flags.get(_plain(flag))
        if field is None:
            continue
        if field:
            return f"spec.{block}.extraArgs: {flag} has a field of its own: use {field}"
        return f"spec.{block}.extraArgs: {flag} is set by Pointsman: remove it"
    return None


def reserved(spec: LLMBackendSpec, names: Iterable[str]) -> str | None:
    """What is wrong with `env`: variables without which, as Pointsman sets them, the engine does not work."""
    ours = frozenset(names)
    for variable in spec.env or ():
        if variable.name in ours:
            return f"spec.env: {variable.name} is set by Pointsman: remove it"
    return None


def literal(text: str) -> str:
    """`text` as an argument that kubelet hands on as it is: it would replace `$(NAME)` by a variable's value."""
    return text.replace("$(", "$$(")


def _plain(flag: str) -> str:
    """vLLM takes `--max_model_len` for `--max-model-len`."""
    return "--" + flag[2:].replace("_", "-") if flag.startswith("--") else flag
