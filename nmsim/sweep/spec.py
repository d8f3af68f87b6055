"""What a sweep is asked to cover: its axes, from a SWEEP.yaml or from command-line texts.

arch: [arch_configs/ampere.yaml]            # paths are relative to this file; a single value needs no list
set: {sm.count: [72, 108, 144]}             # every combination of the values of all keys
workload: [workloads/gpt_w512_*.nmtrace]    # traces, or NAME: [traces] to name a network yourself
recipe: [dense, sr-ste]                     # of those recorded; all of them without this key
pattern: [recorded, "2:4", "1:8"]
batch: [recorded, 64]
dtype: [recorded, int8]
baseline: [dense, tile-wise]
l2: cold
engine: compiled
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from nmsim.arch.document import Document, KeyPath, nearest_key, parse_document, read_document
from nmsim.errors import InputError
from nmsim.run.formats import FORMATS
from nmsim.run.schemes import SCHEMES
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import BITS_PER_ELEMENT
from nmsim.workload.fields import MAX_DIMENSION

RECORDED = "recorded"
"""As the trace says: on the axes of patterns, batches and element types."""
MAX_AXIS = 10_000

KEYS = ("arch", "set", "workload", "recipe", "pattern", "batch", "dtype", "baseline", "l2", "engine")


@dataclass(frozen=True)
class SweepSpec:
    """The axes of a sweep, checked one by one; a pattern, batch or element type of None is the recorded one."""

    archs: tuple[Path, ...]
    overrides: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(key, values) as for `--set key=value`."""
    workloads: tuple[tuple[str, tuple[Path, ...]], ...] = ()
    """(name of the network or empty, its traces)."""
    recipes: tuple[str, ...] = ()
    """Empty: every recipe that the traces were recorded with."""
    patterns: tuple[str | None, ...] = (None,)
    batches: tuple[int | None, ...] = (None,)
    dtypes: tuple[str | None, ...] = (None,)
    schemes: tuple[str, ...] = SCHEMES
    l2: str = "cold"
    engine: str | None = None


def read_sweep_spec(path: Path) -> SweepSpec:
    """The sweep that a YAML file describes; InputError with file and line for an unknown key or a value of no axis."""
    return _spec_of(read_document(path), path.parent)


def sweep_spec_of_texts(texts: Mapping[str, Sequence[str]]) -> SweepSpec:
    """The sweep of command-line options: for each of KEYS the texts given, `set` as `KEY=VALUE` or `KEY=[VALUE,VALUE]`."""
    data: dict[str, Any] = {}
    for key, values in texts.items():
        if not values:
            continue
        if key == "set":
            data[key] = dict(_override(value) for value in values)
        elif key == "batch":
            data[key] = [int(value) if value.isdecimal() and len(value) < 20 else value for value in values]
        else:
            data[key] = list(values) if key not in ("l2", "engine") else values[-1]
    return _spec_of(_Options(data), Path())


class _Options(Document):
    """Command-line values in the shape of a document: an error names the option."""

    def error(self, problem: str, path: KeyPath, value: object = None, fix: str | None = None) -> InputError:
        return InputError(problem, path=f"--{path[0]}" if path else None, value=value, fix=fix)


def _override(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    origin = f"--set {text if text.isprintable() else repr(text)}"
    if not equals or not key:
        raise InputError("is not of the form KEY.KEY=VALUE", file=origin, fix="write for example --set sm.count=[72,108,144]")
    listed = parse_document(f"values: {values}", origin).data["values"]
    return key.strip(), listed if isinstance(listed, list) else [listed]


def _spec_of(document: Document, folder: Path) -> SweepSpec:
    data = document.data
    for key in data:
        if key not in KEYS:
            raise document.error("no such key of a sweep", (key,), fix=nearest_key(key, list(KEYS)))
    for needed in ("arch", "workload"):
        if needed not in data:
            raise document.error(f"a sweep needs at least one {needed}", (), fix=f"add {needed}: [...]")
    types = list(BITS_PER_ELEMENT)
    patterns = [None if value == RECORDED else _pattern(document, value, place) for place, value in _listed(document, "pattern")]
    batches = [None if value == RECORDED else _batch(document, value, place) for place, value in _listed(document, "batch")]
    dtypes = [None if value == RECORDED else _one_of(document, value, place, types) for place, value in _listed(document, "dtype")]
    names = {name.replace("_", "-"): name for name in (*SCHEMES, *FORMATS)}
    baselines = [names[_one_of(document, value, place, list(names))] for place, value in _listed(document, "baseline")]
    return SweepSpec(
        archs=tuple(folder / _text(document, value, place) for place, value in _listed(document, "arch")),
        overrides=_overrides(document),
        workloads=_workloads(document, folder),
        recipes=tuple(_text(document, value, place) for place, value in _listed(document, "recipe")),
        patterns=tuple(patterns) or (None,),
        batches=tuple(batches) or (None,),
        dtypes=tuple(dtypes) or (None,),
        schemes=tuple(baselines) or SCHEMES,
        l2=_one_of(document, data.get("l2", "cold"), ("l2",), ["cold", "warm"]),
        engine=None if "engine" not in data else _one_of(document, data["engine"], ("engine",), ["compiled", "simpy"]),
    )


def _listed(document: Document, key: str) -> list[tuple[KeyPath, Any]]:
    """(place, value) of each value of an axis; none where the key is left out. A value given twice is refused."""
    if key not in document.data:
        return []
    return _items(document, (key,), document.data[key])


def _items(document: Document, path: KeyPath, value: Any) -> list[tuple[KeyPath, Any]]:
    if not isinstance(value, list):
        return [(path, value)]
    if not 1 <= len(value) <= MAX_AXIS:
        raise document.error(f"must hold 1 to {MAX_AXIS:,} values", path, fix="leave the key out for its default")
    for position, one in enumerate(value):
        if one in value[:position]:
            raise document.error("is given twice", (*path, position), one, "remove one")
    return [((*path, position), one) for position, one in enumerate(value)]


def _text(document: Document, value: Any, place: KeyPath) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise document.error("must be a text", place, value, "put it in quotes")
    return value


def _one_of(document: Document, value: Any, place: KeyPath, known: list[str]) -> str:
    if value not in known:
        raise document.error(f"no such {place[0]}", place, value, f"use one of {', '.join(known)}")
    return str(value)


def _pattern(document: Document, value: Any, place: KeyPath) -> str:
    try:
        return str(NMPattern.parse(value))
    except InputError as error:
        raise document.error(error.problem, place, value, error.fix) from None


def _batch(document: Document, value: Any, place: KeyPath) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_DIMENSION:
        raise document.error(f"a batch is 1 to {MAX_DIMENSION} samples", place, value, f"write a number, or {RECORDED}")
    return value


def _overrides(document: Document) -> tuple[tuple[str, tuple[str, ...]], ...]:
    given = document.data.get("set", {})
    if not isinstance(given, dict):
        raise document.error("must be keys of the machine with their values", ("set",), given, "write sm.count: [72, 108, 144]")
    found = []
    for key, values in given.items():
        texts = []
        for place, value in _items(document, ("set", key), values):
            if value is None or isinstance(value, list | dict):
                raise document.error("a value to set is a number, a text, true or false", place, value)
            texts.append(value if isinstance(value, str) else json.dumps(value))
        found.append((key, tuple(texts)))
    return tuple(found)


def _workloads(document: Document, folder: Path) -> tuple[tuple[str, tuple[Path, ...]], ...]:
    given = document.data["workload"]
    if isinstance(given, dict):
        named = [(name, _traces(document, ("workload", name), traces, folder)) for name, traces in given.items()]
        if not named:
            raise document.error("names no workload", ("workload",), fix="write NAME: [traces]")
        return tuple(named)
    return (("", _traces(document, ("workload",), given, folder)),)


def _traces(document: Document, path: KeyPath, value: Any, folder: Path) -> tuple[Path, ...]:
    """The traces that paths and wildcards stand for, each once, in the order given (of a wildcard: by name)."""
    found: dict[Path, None] = {}
    for place, one in _items(document, path, value):
        text = _text(document, one, place)
        if not any(character in text for character in "*?["):
            found[folder / text] = None
            continue
        matches = sorted(glob(text, root_dir=folder))
        if not matches:
            raise document.error("no trace has a name like this", place, text, "check the path")
        found |= dict.fromkeys(folder / match for match in matches)
    return tuple(found)
