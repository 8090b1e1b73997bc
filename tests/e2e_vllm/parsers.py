"""The parsers that vLLM has for tool calls and reasoning, as a list that the catalogue is held against.

    python -m tests.e2e_vllm.parsers       # writes it anew, from the vLLM that the tests install

The names are the keys of two tables in vLLM's own source; it is read, not run.
"""

from __future__ import annotations

import ast
from pathlib import Path

import yaml
from tests.cluster.programs import vllm_cpu

LIST = Path(__file__).resolve().parents[1] / "unit" / "catalogue" / "vllm_parsers.yaml"
TABLES = {
    "toolCallParser": ("vllm/tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
    "reasoningParser": ("vllm/reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
}
"""Option of engine VLLM → file and table."""


def installed(site: Path) -> dict[str, list[str]]:
    """The names in that folder of packages."""
    return {option: _keys(site / file, table) for option, (file, table) in TABLES.items()}


def text(site: Path) -> str:
    """The list as it is committed."""
    files = " and ".join(f"{table} of {file}" for file, table in TABLES.values())
    head = f"# Written by `python -m tests.e2e_vllm.parsers` from vLLM {vllm_cpu.version()}:\n# {files}.\n"
    return head + yaml.safe_dump({"version": vllm_cpu.version(), **installed(site)}, width=110, default_flow_style=None)


def _keys(file: Path, table: str) -> list[str]:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == [table]:
            return sorted(ast.literal_eval(node.value))
    raise LookupError(f"{file} has no {table}")


if __name__ == "__main__":
    LIST.write_text(text(vllm_cpu.ensure() / "site"))
