"""Writes docs/clients.md from a run: `python -m tests.clients.publish`."""

from __future__ import annotations

import asyncio
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.clients.own_tests import FILES, Comparison, compare, file_of, reason
from tests.clients.programs import NPM_OPENAI

TEMPLATE = Path(__file__).with_name("page.md")
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def render(found: Comparison) -> str:
    """The page. The same results give the same text."""
    different = found.different
    table = [
        "| file | tests | pass against the mock | end alike through the gateway | do not |",
        "| --- | --- | --- | --- | --- |",
    ]
    for file in FILES:
        tests = [t for t in found.direct.outcomes if file_of(t) == file]
        passed = sum(found.direct.outcomes[t] == "passed" for t in tests)
        other = sum(t in different for t in tests)
        table.append(f"| `{file}` | {len(tests)} | {passed} | {len(tests) - other} | {other or ''} |")
    counts: dict[tuple[str, str], int] = {}
    for test in different:
        key = (file_of(test), reason(test) or "unexpected")
        counts[key] = counts.get(key, 0) + 1
    reasons = [f"- `{file}`, {count}: {why}." for (file, why), count in sorted(counts.items())]
    text = TEMPLATE.read_text().replace("{python}", version("openai")).replace("{npm}", NPM_OPENAI)
    return text.replace("{table}", "\n".join(table)).replace("{reasons}", "\n".join(reasons))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(render(asyncio.run(compare(Path(folder)))))


if __name__ == "__main__":
    main()
