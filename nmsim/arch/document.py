"""A small, strict YAML reader: plain data, and the file and line each value came from.

Accepted: one UTF-8 document whose root is a mapping with text keys; mappings, lists, text, numbers, true/false, null
(YAML 1.2 core: `2:4` and `yes` are text). Refused, each with one sentence: anything else YAML can express (tags,
directives, merge keys, complex keys, several documents), duplicate keys, tabs as indentation, numbers that are not
finite, more than a few anchors, and files that are too big, too deep or expand to too many values.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from nmsim.errors import InputError

MAX_BYTES = 1_000_000
MAX_DEPTH = 16
MAX_VALUES = 20_000
MAX_ANCHORS = 16
MAX_DIGITS = 20

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SYNTAX = "check indentation, brackets and quotes"
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file and its line, or an override (no line)."""

    file: str
    line: int | None


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the place of each key path in it."""

    data: dict[str, Any]
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place:
        """The place of a path, or of the nearest path above it that was written somewhere."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        raise KeyError(path)

    def error(self, problem: str, path: KeyPath, value: object = None, fix: str | None = None) -> InputError:
        """An InputError that says where `path` was written."""
        place = self.place(path)
        return InputError(problem, file=place.file, line=place.line, path=dotted(path) or None, value=value, fix=fix)


def dotted(path: KeyPath) -> str:
    """`('kernels', 'tiles', 0, 'stages')` -> `kernels.tiles.0.stages`; a key that is no plain word is quoted."""
    return ".".join(str(part) if isinstance(part, int) or re.fullmatch(r"[\w*+-]{1,60}", part) else _quoted(part) for part in path)


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."


def nearest_key(key: str, known: list[str]) -> str:
    """Advice for a key that is not known: the one that was probably meant, or all there are."""
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known keys: {', '.join(known)}" if known else "remove it"


def read_document(path: str | Path) -> Document:
    """Read a YAML file; InputError for anything that is not a well-formed document of the accepted kind."""
    return parse_document(_read_text(Path(path)), str(path))


def parse_document(text: str, file: str) -> Document:
    """Parse YAML text; `file` is the name that errors and places give."""
    for number, line in enumerate(text.split("\n"), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise InputError("a tab is not allowed as indentation", file=file, line=number, fix="indent with spaces")
    builder = _Builder(file)
    data = builder.document(_events(text, file))
    if not isinstance(data, dict):
        raise InputError("must be a mapping of keys to values", file=file, line=1, fix="start with `key: value` lines")
    builder.places[()] = Place(file, 1)
    return Document(data, builder.places)


def parse_scalar(text: str, origin: str) -> str | int | float | bool | None:
    """One YAML scalar, as on the right of `--set key=`; `origin` is what errors name. InputError for anything else."""
    value = _Builder(origin, numbered=False).document(_events(text, origin, numbered=False)) if text.strip() else None
    if isinstance(value, dict | list):
        raise InputError("only a single value can be set", file=origin, fix="set the parts one by one, as in a.b=1 and a.0.b=2")
    leaf: str | int | float | bool | None = value
    return leaf


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError("is a directory", file=path, fix="name a YAML file")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"is larger than {MAX_BYTES:,} bytes", file=path, fix="this is not a configuration file")
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)  # a pipe or a device has no size to ask for beforehand
    except FileNotFoundError:
        raise InputError("no such file", file=path, fix="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", file=repr(str(path))) from None
    if len(content) > MAX_BYTES:
        raise InputError(f"is larger than {MAX_BYTES:,} bytes", file=path, fix="this is not a configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8 text", file=path, line=line, fix="save it as UTF-8 YAML") from None


def _events(text: str, file: str, *, numbered: bool = True) -> Iterator[Any]:
    """The parser's events (ruamel's classes declare no attributes), with whatever the parser raises turned into one sentence."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except Exception as error:  # on arbitrary text the parser raises ValueError, IndexError and others beside its own
        problem, line = "an escape or character that YAML does not allow", None
        if isinstance(error, ReaderError):
            problem, line = f"the character U+{error.character:04X} is not allowed", text.count("\n", 0, error.position) + 1
        elif isinstance(error, MarkedYAMLError):
            problem = (error.problem or error.context or "syntax error")[:200].replace("\t", "\\t").replace("\n", " ")
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else None
        raise InputError(f"is not well-formed YAML: {problem}", file=file, line=line if numbered else None, fix=_SYNTAX) from None


class _Builder:
    """Turns parser events into plain data and places, refusing what a configuration has no use for."""

    def __init__(self, file: str, *, numbered: bool = True) -> None:
        self.file = file
        self.numbered = numbered
        self.places: dict[KeyPath, Place] = {}
        self.values = 0
        self.anchors: dict[str, tuple[Any, int]] = {}

    def document(self, events: Iterator[Any]) -> Any:
        data: Any = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.refuse(event, "a second document starts here", "keep one document in a file")
                if event.version is not None or event.tags:
                    raise self.refuse(event, "YAML directives are not accepted", "remove the line that starts with %")
                data = self.value(next(events), events, ())
            elif isinstance(event, StreamEndEvent):
                break
        return data

    def value(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        """Build the value that starts with `event`, taking further events as it needs them."""
        if len(path) > MAX_DEPTH:
            raise self.refuse(event, f"is nested deeper than {MAX_DEPTH} levels", "flatten it", path[:3])
        self.places[path] = self.place(event)
        if isinstance(event, AliasEvent):
            return self.alias(event, path)
        if event.ctag is not None:
            raise self.refuse(event, "YAML tags are not accepted", f"remove {_quoted(str(event.ctag))}", path)
        before = self.values
        self.count(1, event, path)
        built: Any
        if isinstance(event, MappingStartEvent):
            built = self.mapping(events, path)
        elif isinstance(event, SequenceStartEvent):
            built = []
            while not isinstance(item := next(events), SequenceEndEvent):
                built.append(self.value(item, events, (*path, len(built))))
        else:
            built = self.scalar(event, path)
        if event.anchor is not None:
            if len(self.anchors) == MAX_ANCHORS:
                raise self.refuse(event, f"more than {MAX_ANCHORS} anchors", "write the values out, or use `extends`", path)
            self.anchors[event.anchor] = (built, self.values - before)
        return built

    def mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self.scalar(event, path) if isinstance(event, ScalarEvent) and event.ctag is None and event.anchor is None else None
            if not isinstance(key, str):
                raise self.refuse(event, "a key must be plain text", "put the key in quotes", path)
            if key == "<<" and event.style is None:
                raise self.refuse(event, "merge keys (<<) are not accepted", "write the values out, or use `extends`", path)
            if key in built:
                raise self.refuse(event, f"the key {_quoted(key)} is given twice", f"first on line {self.places[(*path, key)].line}", path)
            place = self.place(event)
            built[key] = self.value(next(events), events, (*path, key))
            self.places[(*path, key)] = place
        return built

    def alias(self, event: AliasEvent, path: KeyPath) -> Any:
        """A copy of what the anchor stands for, at its full price."""
        if event.anchor not in self.anchors:
            raise self.refuse(event, f"the alias {_quoted(event.anchor)} stands for nothing written before it", "write the value out", path)
        value, size = self.anchors[event.anchor]
        self.count(size, event, path)
        return copy.deepcopy(value)

    def scalar(self, event: Any, path: KeyPath) -> str | int | float | bool | None:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.refuse(event, "is not valid Unicode text", "remove the \\u escape", path)
        if event.style is not None:  # quoted or block text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self.refuse(event, "must be a finite number", f"{text} is not one", path)
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise self.refuse(event, f"a whole number of more than {MAX_DIGITS} digits", "check the unit", path)
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self.refuse(event, "must be a finite number", "check the exponent", path)
            return number
        return text

    def count(self, values: int, event: Any, path: KeyPath) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            raise self.refuse(
                event, f"holds more than {MAX_VALUES:,} values once aliases are expanded", "this is not a configuration", path[:3]
            )

    def place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1 if self.numbered else None)

    def refuse(self, event: Any, problem: str, fix: str, path: KeyPath = ()) -> InputError:
        return InputError(problem, file=self.file, line=self.place(event).line, path=dotted(path) or None, fix=fix)
