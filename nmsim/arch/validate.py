"""A document against a schema: the model, or the first thing wrong with it as one sentence for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from nmsim.arch.document import Document, KeyPath, dotted, nearest_key
from nmsim.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

_PROBLEMS = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "extra_forbidden": "is not a key that is known here",
}
"""Wording by pydantic error type, filled from the error's context; `missing` and lengths are worded by `_sentence`."""


def validated(document: Document, model: type[Model]) -> Model:
    """`document` as a `model`; InputError with file, line and path of the first problem.

    Validation goes through JSON text, the one strict mode in which a YAML list may become a tuple while "256" is still
    refused where a number belongs.
    """
    try:
        return model.model_validate_json(json.dumps(document.data, allow_nan=False))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    # A misspelt key is reported as an unknown key and a missing one: the first says more.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    raise _sentence(document, model, first)


def _sentence(document: Document, model: type[BaseModel], problem: Mapping[str, Any]) -> InputError:
    path: KeyPath = tuple(problem["loc"])
    kind, context = problem["type"], problem.get("ctx", {})
    value = _at(document.data, path)
    fix = None
    if kind == "missing":
        return _missing(document, path)
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        text = f"must hold at least {least} item(s)" if kind == "too_short" else f"must hold at most {most} item(s)"
        text += f", got {context.get('actual_length')}"
        value = None
    elif kind == "value_error":
        text, value = str(context["error"]), None
    elif kind in _PROBLEMS:
        text = _PROBLEMS[kind].format(**context)
    else:
        text = problem["msg"][:1].lower() + problem["msg"][1:]
    if kind == "extra_forbidden":
        fix, value = nearest_key(str(path[-1]), _keys_at(model, path[:-1])), None
    elif kind in ("int_type", "float_type") and isinstance(value, str):
        fix = "remove the quotes" if _looks_numeric(value) else None
    elif kind == "string_type" and value is not None:
        fix = "put it in quotes"
    if isinstance(value, dict | list):
        text, value = f"{text}, got a {'mapping' if isinstance(value, dict) else 'list'}", None
    elif value is None and kind in _PROBLEMS and kind != "extra_forbidden":
        text += ", got nothing"
    return blame(document, path, text, value, fix)


def _missing(document: Document, path: KeyPath) -> InputError:
    holder = _at(document.data, path[:-1])
    if isinstance(path[-1], int):  # too few items in a list of fixed length
        return blame(document, path[:-1], f"needs at least {path[-1] + 1} items, got {len(holder)}", None, None)
    return blame(document, path[:-1], f"the key {path[-1]!r} is missing", None, f"add {dotted(path)}")


def blame(document: Document, path: KeyPath, text: str, value: object, fix: str | None) -> InputError:
    """An error about `path`. Name the place of `path`, or the one override inside it (a check over several keys fails at the block)."""
    inside = [place for at, place in document.places.items() if place.line is None and at[: len(path)] == path]
    place = inside[-1] if inside else document.place(path)
    return InputError(text, file=place.file, line=place.line, path=dotted(path) or None, value=value, fix=fix)


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys the schema knows at `path`, as they are written in YAML."""
    kind: Any = model
    for part in path:
        if _is_model(kind):
            kind = next((field.annotation for name, field in kind.model_fields.items() if part in (name, field.alias)), None)
        else:  # a list or a dict of models
            kind = next((argument for argument in get_args(kind) if _is_model(argument)), None)
        while get_origin(kind) in (Annotated, Union, UnionType):
            kind = next((argument for argument in get_args(kind) if argument is not type(None)), None)
    if not _is_model(kind):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _looks_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
