"""Engine Ollama: spec → container. Pure.

Facts (measured on 0.17.4): HOME must be writable, the server makes a key pair there at its start; a server that prunes
at its start destroys a pull under way, hence OLLAMA_NOPRUNE; a running server sees at once a model that another program
wrote; version and tags answer while a model loads.
"""

from __future__ import annotations

from pointsman.api.backend import LLMBackendSpec
from pointsman.domain.formats import Format
from pointsman.engines.base import STORE_PATH, TMP, Manifest, Scratch
from pointsman.engines.server import server

PORT = 11434
HOME = "/home/pointsman"

RESERVED = ("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_NOPRUNE", "HOME")
"""Without these as they are the backend does not work: `env` must not set them."""
FIELDS = {
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_MAX_LOADED_MODELS": "maxLoadedModels",
    "OLLAMA_MAX_QUEUE": "maxQueue",
    "OLLAMA_KEEP_ALIVE": "keepAlive",
    "OLLAMA_ORIGINS": "origins",
}
CONTEXT = "OLLAMA_CONTEXT_LENGTH"
"""These have fields: `env` may set one whose field is not set."""


class Ollama:
    """`Driver` of Ollama."""

    runs_pods = True
    worker_flags = ()
    reads_files = False
    loads: frozenset[Format] = frozenset()

    def port(self, spec: LLMBackendSpec) -> int:
        return PORT

    def problem(self, spec: LLMBackendSpec) -> str | None:
        options = _options(spec)
        for variable in spec.env or ():
            if variable.name in RESERVED:
                return f"spec.env: {variable.name} is set by Pointsman: remove it"
            if variable.name == CONTEXT and CONTEXT in options:
                return f"spec.env: {CONTEXT} is already set by spec.models[].contextLength: keep one"
            if variable.name in options:
                return f"spec.env: {variable.name} is already set by spec.ollama.{FIELDS[variable.name]}: keep one"
        return None

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        env = {
            "OLLAMA_HOST": f"0.0.0.0:{PORT}",
            "OLLAMA_MODELS": STORE_PATH,
            "OLLAMA_NOPRUNE": "1",
            "HOME": HOME,
            **_options(spec),
        }
        return server(self, spec, image, health="/api/version", env=env, read_only=False)

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        return (Scratch("home", HOME), TMP)


def _options(spec: LLMBackendSpec) -> dict[str, str]:
    out: dict[str, str] = {}
    if contexts := [m.context_length for m in spec.models if m.context_length is not None]:
        # What a model is said to take, the server must keep: its own default may be 4,096 tokens, and it cuts the rest.
        out[CONTEXT] = str(max(contexts))
    o = spec.ollama
    if o is None:
        return out
    if o.parallel is not None:
        out["OLLAMA_NUM_PARALLEL"] = str(o.parallel)
    if o.max_loaded_models is not None:
        out["OLLAMA_MAX_LOADED_MODELS"] = str(o.max_loaded_models)
    if o.max_queue is not None:
        out["OLLAMA_MAX_QUEUE"] = str(o.max_queue)
    if o.keep_alive is not None:
        out["OLLAMA_KEEP_ALIVE"] = o.keep_alive  # the units are those of Go's durations
    if o.origins:
        out["OLLAMA_ORIGINS"] = ",".join(o.origins)
    return out
