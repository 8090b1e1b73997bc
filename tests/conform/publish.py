"""Writes docs/conformance.md from what runs of `pointsman conform` left in results/: nothing in its table is by hand.

python -m tests.conform.publish
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pointsman.conform.catalogue import SCENARIOS
from pointsman.conform.markdown import compared
from pointsman.conform.result import Outcome, Report, Result

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"
RUNS = ("pointsman", "envoy", "litellm", "smg", "vllm-router")
"""In the order of the columns; each has a result and a configuration."""

_OUTCOMES = {"failure": Outcome.FAIL, "error": Outcome.NOT_RECOVERED, "skipped": Outcome.NOT_APPLICABLE}


def page() -> str:
    reports = [read(HERE / "results" / f"{name}.xml") for name in RUNS]
    dates = sorted({r.when[:10] for r in reports})
    text = (HERE / "page.md").read_text()
    text = text.replace("{dates}", " and ".join(dates)).replace("{count}", str(len(SCENARIOS)))
    head, _, tail = text.partition("{table}\n")
    configurations = [f"### {r.title}\n\n{_configuration(name)}" for name, r in zip(RUNS, reports, strict=True)]
    return head + compared(reports) + tail + "\n".join(configurations)


def read(file: Path) -> Report:
    """A run, from the JUnit report that it wrote: scenarios that are newer than it are left out. Raises `KeyError` when
    it has others than we know."""
    suite = ElementTree.parse(file).getroot()[0]
    cases = {case.get("name", ""): case for case in suite}
    results = []
    for scenario in SCENARIOS:
        case = cases.pop(scenario.name, None)
        if case is None:
            continue
        found = next(iter(case), None)
        outcome = Outcome.PASS if found is None else _OUTCOMES[found.tag]
        saw = "" if found is None else found.get("message", "").partition("; right is: ")[0]
        results.append(Result(scenario, outcome, saw, float(case.get("time", "0")) * 1000))
    if cases:
        raise KeyError(f"{file.name}: {', '.join(cases)}")
    return Report(suite.get("name", ""), suite.get("timestamp", ""), 2.0, tuple(results))


def _configuration(name: str) -> str:
    (file,) = (HERE / "peers").glob(f"{name}.*")
    how, _, code = file.read_text().partition("\n\n")
    how = "\n".join(line.removeprefix("# ") for line in how.splitlines())
    return f"{how}\n\n```{file.suffix[1:]}\n{code}```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
