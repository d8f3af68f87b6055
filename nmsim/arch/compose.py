"""One document from several: a file that extends another, and values set on the command line.

The rule for both is the one for sources: a source speaks of the value it was written beside, so whoever writes a value
brings its source, and a source of the value that was replaced does not survive it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmsim.arch.document import Document, KeyPath, Place, dotted, nearest_key, parse_scalar, read_document
from nmsim.errors import InputError

_POSITION = re.compile(r"[0-9]{1,6}")


def read_extended(path: str | Path) -> Document:
    """Read a file and, where it says `extends: OTHER.yaml` (relative to itself), lay it over that file, which may extend a third.

    Mappings are merged key by key; lists and values are replaced. InputError as of `read_document`, and for a circle.
    """
    return _read_over(Path(path), ())


def _read_over(path: Path, above: tuple[Path, ...]) -> Document:
    """The file at `path` over what it extends; `above` are the files that extend it, by absolute path."""
    child = read_document(path)
    if "extends" not in child.data:
        return child
    name = child.data["extends"]
    if not isinstance(name, str) or not name:
        raise child.error("must be the name of a YAML file", ("extends",), name)
    base_path = path.parent / name
    seen = (*above, path.resolve())
    if base_path.resolve() in seen:
        raise child.error(f"{base_path} extends this file in its turn", ("extends",), fix="let one of them stand on its own")
    try:
        base = _read_over(base_path, seen)
    except InputError as error:
        if error.file == base_path and error.line is None:  # the file itself, not something in it
            fix = "the path starts at this file's folder; write the whole path of a shipped file" if not base_path.exists() else error.fix
            raise child.error(f"{base_path}: {error.problem}", ("extends",), fix=fix) from None
        raise
    places = dict(base.places)
    data = _merged(base.data, child.data, (), places, child)
    del data["extends"]
    places[()] = child.places[()]
    return Document(data, places)


def _merged(base: dict[str, Any], child: dict[str, Any], path: KeyPath, places: dict[KeyPath, Place], document: Document) -> dict[str, Any]:
    merged = dict(base)
    for key, value in child.items():
        here = (*path, key)
        if key == "sources":
            continue
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merged(base[key], value, here, places, document)
        else:
            for old in [place for place in places if place[: len(here)] == here]:
                del places[old]
            places.update({place: at for place, at in document.places.items() if place[: len(here)] == here})
            merged[key] = value
    if "sources" in base or "sources" in child:
        merged["sources"] = _merged_sources(base, child)
        places.update({place: at for place, at in document.places.items() if place[: len(path) + 1] == (*path, "sources")})
    return merged


def _merged_sources(base: dict[str, Any], child: dict[str, Any]) -> Any:
    """The source of each key from the file that wrote the key, with '*' written out for the keys it stands for."""
    old, new = base.get("sources", {}), child.get("sources", {})
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new if "sources" in child else old  # malformed: left for the schema to refuse
    sources = {key: text for key, text in old.items() if key != "*" and key not in child}
    sources |= {key: old["*"] for key in base if "*" in old and key not in sources and key not in child and key != "sources"}
    sources |= {key: text for key, text in new.items() if key != "*"}
    return sources | {key: new["*"] for key in child if "*" in new and key not in new and key != "sources"}


def overridden(document: Document, overrides: Sequence[str]) -> Document:
    """`document` with each `a.b.0.c=VALUE` of `overrides` applied in turn; VALUE is one YAML scalar.

    The key may be one that the document leaves out, but what holds it must be there. The nearest `sources` above the
    value then names the override as its source. InputError names the override.
    """
    if not overrides:
        return document
    data, places = copy.deepcopy(document.data), dict(document.places)
    for override in overrides:
        origin = f"--set {override if override.isprintable() else repr(override)}"
        path_text, equals, value_text = override.partition("=")
        parts = path_text.strip().split(".")
        if not equals or not all(parts):
            raise InputError("is not of the form KEY.KEY=VALUE", file=origin, fix="write for example --set sm.count=144")
        path = _set(data, parts, parse_scalar(value_text, origin), origin)
        for old in [place for place in places if place[: len(path)] == path]:
            del places[old]
        places[path] = Place(origin, None)
    return Document(data, places)


def _set(data: dict[str, Any], parts: list[str], value: object, origin: str) -> KeyPath:
    """Put `value` at the path and return the path, list positions as integers."""
    path: KeyPath = ()
    holder: Any = data
    key: Any = None
    sources: dict[str, Any] | None = None
    sourced_key: Any = None
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        key = _key(holder, part, path, origin, may_be_new=last)
        if isinstance(holder, dict) and isinstance(holder.get("sources"), dict) and key != "sources":
            sources, sourced_key = holder["sources"], key
        path = (*path, key)
        if not last:
            holder = holder[key]
    if (isinstance(holder, list) or key in holder) and isinstance(holder[key], dict | list):
        fix = "set the parts one by one, as in a.b=1 and a.0.b=2"
        raise InputError("holds several values", file=origin, path=dotted(path), fix=fix)
    holder[key] = value
    if sources is not None:
        sources[sourced_key] = f"set by {origin}"
    return path


def _key(holder: object, part: str, path: KeyPath, origin: str, *, may_be_new: bool) -> str | int:
    """`part` as a key of `holder`, or as a position in it."""
    if isinstance(holder, list):
        if not _POSITION.fullmatch(part) or int(part) >= len(holder):
            fix = f"use a position from 0 to {len(holder) - 1}" if holder else "the list is empty"
            raise InputError(f"is a list of {len(holder)}, which has no position {part!r}", file=origin, path=dotted(path), fix=fix)
        return int(part)
    if not isinstance(holder, dict):
        raise InputError(f"is a single value, which has no key {part!r}", file=origin, path=dotted(path), value=holder)
    if part not in holder and not may_be_new:
        raise InputError(f"has no key {part!r}", file=origin, path=dotted(path) or None, fix=nearest_key(part, list(holder)))
    return part
