"""YAML and JSON read so that every value still knows its line.

Decided here: what counts as a document, which text is refused whatever it means. Not here: what a document must hold
(`manifests.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong, and where. `line` counts from 1; 0 when the whole file is meant."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class _Loader(yaml.SafeLoader):
    """YAML as the API server's clients read it: a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [r for r in resolvers if r[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Document:
    """One YAML document: its content and the node that knows the lines."""

    file: str
    node: yaml.Node
    body: Any

    def line(self, *path: str | int) -> int:
        """The line of the deepest part of `path` that exists."""
        node, line = self.node, self.node.start_mark.line
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = next((pair for pair in node.value if pair[0].value == part), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
            else:
                break
        return int(line) + 1


def read_documents(file: str, text: str, problems: list[Problem]) -> Iterator[Document]:
    """The documents of `text` that hold something; `file` is its name, and ends in `.json` when it is JSON.

    What cannot be read is appended to `problems`. A key that stands twice in one map is one, as it is for kubectl.
    """
    try:
        if file.endswith(".json") and text.strip():
            json.loads(text)
            text = text.replace("\t", " ")  # JSON allows a tab between tokens (and only there), YAML does not
        yield from _documents(file, text, problems)
    except json.JSONDecodeError as e:
        problems.append(Problem(file, e.lineno, f"is not JSON: {e.msg}"))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problems.append(Problem(file, mark.line + 1 if mark else 0, f"is not YAML: {e.problem}"))
    except yaml.YAMLError as e:
        problems.append(Problem(file, 0, f"is not YAML: {str(e).splitlines()[0]}"))


def _documents(file: str, text: str, problems: list[Problem]) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
                continue
            twice = list(_repeated_keys(node))
            problems.extend(Problem(file, line, f"the key {key} stands twice in one map") for key, line in twice)
            if not twice:
                yield Document(file, node, loader.construct_document(node))
    finally:
        loader.dispose()


def _repeated_keys(root: yaml.Node) -> Iterator[tuple[str, int]]:
    todo, done = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        yield key.value, key.start_mark.line + 1
                    seen.add(key.value)
                todo.append(value)
