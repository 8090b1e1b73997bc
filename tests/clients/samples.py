"""A value of each type of the `openai` package, as JSON: what a mock that keeps to the schema answers.

Made by walking the types, as schema-driven mocks walk an OpenAPI document. A field that may be left out is filled as
well, so that much of a type is exercised; of a union the first form is taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union, get_args, get_origin

from openai import BaseModel

DEPTH = 6
"""Types that hold themselves are left out below this."""


def sample(kind: Any, depth: int = 0) -> Any:
    """A JSON value that `kind` accepts."""
    origin = get_origin(kind)
    args = get_args(kind)
    if origin is Annotated or str(origin) == "typing.Annotated":
        return sample(args[0], depth)
    if hasattr(kind, "__value__"):  # a named alias
        return sample(kind.__value__, depth)
    if origin is Literal:
        return args[0]
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return sample(next(a for a in args if a is not type(None)), depth)
    if origin in (list, tuple):
        return [sample(args[0], depth + 1)]
    if origin is dict:
        return {"foo": sample(args[1], depth + 1)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields: dict[str, Any] = {}
        for name, field in kind.model_fields.items():
            if depth < DEPTH or field.is_required():
                fields[field.alias or name] = sample(field.annotation, depth + 1)
        return fields
    return {str: "string", int: 1, float: 1.0, bool: True}.get(kind, {} if kind is dict else "string")
