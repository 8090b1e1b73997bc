"""Engine External: a server that someone else runs. There is nothing to run and nothing to pull. Pure."""

from __future__ import annotations

from pointsman.api.backend import LLMBackendSpec
from pointsman.domain.formats import Format
from pointsman.engines.base import Manifest, Scratch


class External:
    """`Driver` of a URL."""

    runs_pods = False
    worker_flags = ()
    reads_files = False
    loads: frozenset[Format] = frozenset()

    def port(self, spec: LLMBackendSpec) -> int:
        return 0

    def problem(self, spec: LLMBackendSpec) -> str | None:
        return None

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        raise AssertionError("an External backend has no pods")

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        return ()
