"""Reading untrusted plain data field by field: each value is taken with its type and range, or refused by name.

What comes out of a JSON file may be of any type and any size. A function here takes one value and the `Place` where it
stands, and gives it back typed, or raises InputError naming the file, the field, the value and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmsim.errors import InputError

MAX_DIMENSION = 2**31 - 1
"""Largest size of one dimension; GPU libraries index with 32-bit integers too."""
MAX_COUNT = 2**63 - 1
"""Largest count of MACs, bytes or operations: they must fit a signed 64-bit column."""
MAX_NAME = 512
"""Longest name, id or key, in characters."""
MAX_TEXT = 20_000
"""Longest free text, in characters."""
MAX_DEPTH = 16
"""Deepest nesting of free-form data such as hyper-parameters."""


@dataclass(frozen=True)
class Place:
    """Where a value stands: a file and the path of the field in it, such as `gemms['fc1:forward'].a.shape`."""

    file: Path | None
    path: str = ""

    def key(self, name: str) -> Place:
        """The place of a field of this object."""
        return Place(self.file, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int | str) -> Place:
        """The place of an element of this list, or of a value in this mapping."""
        return Place(self.file, f"{self.path}[{index!r}]")

    def refusal(self, problem: str, value: object = None, fix: str | None = None) -> InputError:
        """The error that refuses the value at this place."""
        return InputError(problem, file=self.file, path=self.path or None, value=value, fix=fix)


def take_object(value: Any, place: Place, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object with all of `required`, and no key that is neither required nor optional."""
    mapping = take_mapping(value, place)
    missing = [key for key in required if key not in mapping]
    if missing:
        raise place.refusal(f"the key {missing[0]!r} is missing", fix=f"give {', '.join(missing)}")
    unknown = [key for key in mapping if key not in required and key not in optional]
    if unknown:
        raise place.refusal("there is no such key", value=unknown[0], fix=f"known keys: {', '.join([*required, *optional])}")
    return mapping


def take_mapping(value: Any, place: Place) -> dict[str, Any]:
    """A JSON object with any keys."""
    if not isinstance(value, dict):
        raise place.refusal("must be an object", value=value)
    return value


def take_list(value: Any, place: Place) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise place.refusal("must be a list", value=value)
    return value


def take_int(value: Any, place: Place, low: int, high: int) -> int:
    """A whole number in [low, high]; true, false and 4.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise place.refusal("must be a whole number", value=value)
    if not low <= value <= high:
        # A number of thousands of digits can't even be printed.
        shown: object = value if abs(value) < 2**128 else f"an integer of {value.bit_length()} bits"
        raise place.refusal(f"must be between {low} and {high}", value=shown)
    return value


def take_dimension(value: Any, place: Place) -> int:
    """A size of at least one element and at most `MAX_DIMENSION`."""
    return take_int(value, place, 1, MAX_DIMENSION)


def take_count(value: Any, place: Place) -> int:
    """A count of MACs, bytes or operations, zero or more."""
    return take_int(value, place, 0, MAX_COUNT)


def take_bool(value: Any, place: Place) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise place.refusal("must be true or false", value=value)
    return value


def take_float(value: Any, place: Place, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise place.refusal("must be a number", value=value)
    number = float(take_int(value, place, -MAX_COUNT, MAX_COUNT)) if isinstance(value, int) else value
    if not math.isfinite(number):
        raise place.refusal("must be finite", value=number)
    if not low <= number <= high:
        raise place.refusal(f"must be between {low:g} and {high:g}", value=number)
    return number


def take_choice(value: Any, place: Place, choices: Collection[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise place.refusal("is none of the known values", value=value, fix=f"use one of {', '.join(choices)}")
    return value


def take_text(value: Any, place: Place) -> str:
    """Free text, perhaps empty; the only control characters in it are new lines and tabs."""
    if not isinstance(value, str):
        raise place.refusal("must be text", value=value)
    if len(value) > MAX_TEXT:
        raise place.refusal(f"is longer than {MAX_TEXT} characters", value=value)
    if not value.replace("\n", "").replace("\t", "").isprintable():
        raise place.refusal("holds a control character", value=value)
    return value


def take_name(value: Any, place: Place) -> str:
    """A name, id or key: not empty, printable, and no way out of a folder, because names become keys and file names."""
    if not isinstance(value, str):
        raise place.refusal("must be text", value=value)
    if not value or len(value) > MAX_NAME:
        raise place.refusal(f"must have 1 to {MAX_NAME} characters", value=value)
    if not value.isprintable():
        raise place.refusal("holds a control character", value=value)
    if value.startswith(("/", "~")) or "\\" in value or ".." in value.split("/"):
        raise place.refusal("must not leave its folder", value=value, fix="drop '..', '\\' and a leading '/' or '~'")
    return value


def take_free_data(value: Any, place: Place, depth: int = 0) -> Any:
    """Plain data of any form (hyper-parameters): finite numbers, text, lists, objects, nested at most `MAX_DEPTH` deep."""
    if depth > MAX_DEPTH:
        raise place.refusal(f"is nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return take_int(value, place, -MAX_COUNT, 2 * MAX_COUNT + 1)
    if isinstance(value, float):
        return take_float(value, place)
    if isinstance(value, str):
        return take_text(value, place)
    if isinstance(value, (list, tuple)):
        return [take_free_data(item, place.item(index), depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            take_name(key, place)
        # Sorted, so that equal data are written as equal bytes.
        return {key: take_free_data(value[key], place.item(key), depth + 1) for key in sorted(value)}
    raise place.refusal("is not plain data", value=value, fix="use numbers, text, true, false, null, lists and objects")
