"""The base of every model of the API: strict, frozen, camelCase outside, with rules that the API server checks too.

A rule is written once, as CEL for the API server and as a Python check for manifests read from files; a test runs one
table of accepted and refused objects against both. Transition rules (`oldSelf`) exist on the API server only: a file
has no past.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Rule:
    """One validation rule of an object. `check` is None for a transition rule."""

    cel: str
    message: str
    check: Callable[[Any], bool] | None


class ApiModel(BaseModel):
    """A frozen value that refuses unknown fields and checks its class's `rules`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            if rule.check is not None and not rule.check(self):
                raise PydanticCustomError("rule", "{message}", {"message": rule.message})
        return self

    def to_api(self) -> dict[str, Any]:
        """The object as the API shows it: camelCase, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """A part of a status. Unknown fields are ignored: a newer release may have written them."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


@dataclass(frozen=True)
class Text:
    """Annotation of a string with a form: pattern, length, and the sentence said when it does not fit."""

    pattern: str
    message: str
    max_length: int
    min_length: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        regex = re.compile(self.pattern)

        def check(value: str) -> str:
            if not (self.min_length <= len(value) <= self.max_length) or not regex.search(value):
                raise PydanticCustomError("form", "{message}", {"message": self.message})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        out: dict[str, Any] = dict(handler(schema))
        out["maxLength"] = self.max_length
        if self.min_length:
            out["minLength"] = self.min_length
        cel = "self.matches(" + cel_string(self.pattern) + ")"
        out["x-kubernetes-validations"] = [{"rule": cel, "message": self.message}]
        return out


@dataclass(frozen=True)
class ListMap:
    """Annotation of a list whose items are told apart by the value of `key`: server-side apply merges them by it."""

    key: str
    max_items: int
    min_items: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(items: Any) -> Any:
            seen: set[Any] = set()
            for item in items:
                value = getattr(item, self.key)
                if value in seen:
                    raise PydanticCustomError(
                        "duplicate", "duplicate {key} {value}", {"key": self.key, "value": repr(str(value))}
                    )
                seen.add(value)
            if len(items) > self.max_items:
                raise PydanticCustomError("many", "must have at most {n} items", {"n": self.max_items})
            if len(items) < self.min_items:
                raise PydanticCustomError("few", "must have at least {n} items", {"n": self.min_items})
            return items

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        out: dict[str, Any] = dict(handler(schema))
        out["maxItems"] = self.max_items
        if self.min_items:
            out["minItems"] = self.min_items
        out["x-kubernetes-list-type"] = "map"
        out["x-kubernetes-list-map-keys"] = [to_camel(self.key)]
        return out


def cel_string(text: str) -> str:
    """`text` as a CEL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def parse_labels(meta: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an object's metadata, never None."""
    return dict(meta.get("labels") or {})
