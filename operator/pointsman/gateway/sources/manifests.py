"""Manifests read from files: LLMBackend (engine External), ModelRoute, Secret and ConfigMap, each problem with its file
and line.

Decided here: what a directory of files says, and what is wrong with it. Not here: when it is read again (`files.py`)
and what the resources amount to (`domain/compiling.py`, the same function as in a cluster).

Only the files of the directory itself count (`.yaml`, `.yml`, `.json`; names that begin with a dot do not; symbolic
links are followed, which is how a mounted ConfigMap looks). Status, namespace and age in a file mean nothing. A file
must hold what the API server would accept: field names in camelCase, nothing unknown, no key twice.
A problem names Secrets and keys, never values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from pointsman.api import meta
from pointsman.api.backend import LLMBackendSpec
from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.objects import NAME_LIMIT, NAME_MESSAGE, NAME_PATTERN, LLMBackend, Meta, ModelRoute
from pointsman.api.route import ModelRouteSpec, ModelRouteStatus
from pointsman.domain.table import SecretValue
from pointsman.gateway.sources.documents import Document, Problem, read_documents

SUFFIXES = (".yaml", ".yml", ".json")
SECRET_KIND = "Secret"  # noqa: S105  the name of a kind
CONFIG_MAP_KIND = "ConfigMap"

_API_VERSIONS = {
    meta.BACKEND_KIND: meta.API_VERSION, meta.ROUTE_KIND: meta.API_VERSION, SECRET_KIND: "v1", CONFIG_MAP_KIND: "v1",
}  # fmt: skip
_FIELDS = {
    meta.BACKEND_KIND: {"apiVersion", "kind", "metadata", "spec", "status"},
    meta.ROUTE_KIND: {"apiVersion", "kind", "metadata", "spec", "status"},
    SECRET_KIND: {"apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"},
    CONFIG_MAP_KIND: {"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"},
}
_Spec = TypeVar("_Spec", bound=BaseModel)
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NEEDS_CLUSTER: Final = (
    "spec.engine: Ollama needs a cluster, where the operator runs it; for an Ollama that already runs write"
    " engine: External and the URL of its OpenAI API, such as http://127.0.0.1:11434/v1, under external.url"
)


class ManifestError(ValueError):
    """The files cannot be served; `problems` holds all that is wrong, by file and line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Manifests:
    """What a directory says."""

    backends: Mapping[str, LLMBackend]
    routes: Mapping[str, ModelRoute]
    secrets: Mapping[str, SecretValue]
    config_maps: Mapping[str, SecretValue] = field(default_factory=dict)


EMPTY = Manifests({}, {}, {})


def load(directory: Path, before: Manifests = EMPTY) -> Manifests:
    """Reads the directory. An object that differs from `before` gets the next generation, a Secret or ConfigMap
    the next version, so that they change when the content does. Raises `ManifestError`."""
    reader = _Reader(before)
    try:
        files = manifest_files(directory)
    except OSError as e:
        raise ManifestError([Problem(str(directory), 0, f"cannot be read: {e.strerror}")]) from None
    for path in files:
        reader.read_file(path)
    if not reader.problems and not reader.places:
        reader.problems.append(
            Problem(
                str(directory), 0, "holds no manifests: put LLMBackend and ModelRoute in .yaml, .yml or .json files"
            )
        )
    if reader.problems:
        raise ManifestError(sorted(reader.problems))
    return Manifests(reader.backends, reader.routes, reader.secrets, reader.config_maps)


def manifest_files(directory: Path) -> list[Path]:
    """The files that `load` reads, sorted by name; links that lead nowhere are among them. Raises `OSError` when the
    directory cannot be listed."""
    named = (p for p in directory.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in named if p.is_file() or not p.exists())


class _Reader:
    """Collects the objects and the problems of all files."""

    def __init__(self, before: Manifests) -> None:
        self.before = before
        self.backends: dict[str, LLMBackend] = {}
        self.routes: dict[str, ModelRoute] = {}
        self.secrets: dict[str, SecretValue] = {}
        self.config_maps: dict[str, SecretValue] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.problems: list[Problem] = []

    def read_file(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as e:
            self.problems.append(Problem(path.name, 0, f"cannot be read: {e.strerror}"))
            return
        except UnicodeDecodeError:
            self.problems.append(Problem(path.name, 0, "is not text in UTF-8"))
            return
        for document in read_documents(path.name, text, self.problems):
            self._read_object(document)

    def _read_object(self, doc: Document) -> None:
        def problem(message: str, *path: str | int) -> None:
            self.problems.append(Problem(doc.file, doc.line(*path), message))

        body = doc.body
        if not isinstance(body, dict):
            return problem("must be an object with apiVersion, kind, metadata and spec")
        kind = body.get("kind")
        if not isinstance(kind, str) or kind not in _API_VERSIONS:
            what = f"kind {kind} is not read from files" if isinstance(kind, str) and kind else "kind is missing"
            return problem(f"{what}: only LLMBackend, ModelRoute, Secret and ConfigMap are", "kind")
        if body.get("apiVersion") != _API_VERSIONS[kind]:
            return problem(f"apiVersion of kind {kind} must be {_API_VERSIONS[kind]}", "apiVersion")
        unknown = [key for key in body if key not in _FIELDS[kind]]
        for key in unknown:
            problem(f"{key}: unknown field", str(key))
        if unknown:
            return None
        metadata = body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if (complaint := _name_complaint(kind, name)) is not None:
            return problem(complaint, "metadata", "name")
        assert isinstance(name, str)
        place = f"{doc.file}:{doc.line('metadata', 'name')}"
        other = self.places.setdefault((kind, name), place)
        if other != place:
            return problem(f"{kind} {name} is already defined in {other}: remove one of them", "metadata", "name")
        if kind == SECRET_KIND:
            return self._read_values(doc, name, {"data": True, "stringData": False}, self.secrets, self.before.secrets)
        if kind == CONFIG_MAP_KIND:
            return self._read_values(doc, name, {"data": False}, self.config_maps, self.before.config_maps)
        if kind == meta.BACKEND_KIND:
            return self._read_backend(doc, name)
        return self._read_route(doc, name)

    def _read_backend(self, doc: Document, name: str) -> None:
        raw = doc.body.get("spec")
        if isinstance(raw, dict) and raw.get("engine") == "Ollama":
            self.problems.append(Problem(doc.file, doc.line("spec", "engine"), _NEEDS_CLUSTER))
        elif (spec := self._spec(doc, LLMBackendSpec)) is not None:
            old = self.before.backends.get(name)
            generation = _next(old.meta.generation, old.spec == spec) if old else 1
            self.backends[name] = LLMBackend(_meta(name, generation), spec, LLMBackendStatus())

    def _read_route(self, doc: Document, name: str) -> None:
        if (spec := self._spec(doc, ModelRouteSpec)) is not None:
            old = self.before.routes.get(name)
            generation = _next(old.meta.generation, old.spec == spec) if old else 1
            self.routes[name] = ModelRoute(_meta(name, generation), spec, ModelRouteStatus())

    def _spec(self, doc: Document, model: type[_Spec]) -> _Spec | None:
        """The document's spec, as strictly as the API server reads it; None after a problem."""
        try:
            text = json.dumps(doc.body.get("spec") or {}, allow_nan=False)
            return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
        except ValidationError as e:
            self.problems.extend(_spec_problems(doc, e))
        except (TypeError, ValueError):
            message = "spec: must hold what JSON can: maps, lists, text, numbers, true and false"
            self.problems.append(Problem(doc.file, doc.line("spec"), message))
        return None

    def _read_values(
        self,
        doc: Document,
        name: str,
        sections: Mapping[str, bool],
        into: dict[str, SecretValue],
        before: Mapping[str, SecretValue],
    ) -> None:
        """A Secret or ConfigMap. `sections`: where its values stand, True for those in base64."""
        values: dict[str, str] = {}
        found = len(self.problems)
        for section, encoded in sections.items():
            entries = doc.body.get(section) or {}
            if not isinstance(entries, dict):
                self.problems.append(Problem(doc.file, doc.line(section), f"{section}: must be a map of keys to text"))
                continue
            for key, value in entries.items():
                try:
                    values[str(key)] = _text(value, encoded=encoded)
                except ValueError as e:
                    self.problems.append(Problem(doc.file, doc.line(section, key), f"{section}.{key}: {e}"))
        if len(self.problems) == found:
            old = before.get(name)
            version = _next(int(old.version), old.data == values) if old else 1
            into[name] = SecretValue(str(version), values)


def _next(number: int, same: bool) -> int:
    return number if same else number + 1


def _meta(name: str, generation: int) -> Meta:
    return Meta(name, "", "", generation, "", False, {})


def _name_complaint(kind: str, name: object) -> str | None:
    if kind in (SECRET_KIND, CONFIG_MAP_KIND):
        if isinstance(name, str) and len(name) <= 253 and _OBJECT_NAME.fullmatch(name):
            return None
        return "metadata.name must be the name of an object: lower-case letters, digits, '-' and '.'"
    if isinstance(name, str) and len(name) <= NAME_LIMIT and re.search(NAME_PATTERN, name) and "\n" not in name:
        return None
    return NAME_MESSAGE


def _text(value: object, *, encoded: bool) -> str:
    """Raises `ValueError` with what is wrong, without the value."""
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    if not encoded:
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("must be text in base64; plain text belongs under stringData") from None


def _spec_problems(doc: Document, error: ValidationError) -> Iterator[Problem]:
    errors = error.errors(include_input=False, include_url=False)
    for e in errors:
        loc = e["loc"]
        if e["type"] == "too_short" and any(o["loc"][: len(loc)] == loc and o is not e for o in errors):
            continue  # the list is short of the items that are refused for their own reasons
        path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
        match e["type"]:
            case "extra_forbidden":
                message = "unknown field"
            case "missing":
                message = "is required"
            case _:
                message = e["msg"]
        yield Problem(doc.file, doc.line("spec", *loc), f"{path}: {message}")
