"""Reading and writing `NAME.nmtrace/`: manifest.json, masks.safetensors and, if kept, weights.safetensors.

A trace is written to a temporary folder, read back as any reader would, and only then renamed: a killed run leaves no
half trace, and what can be written can be read. Equal traces are equal bytes. No pickle anywhere.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.packing import pack_mask
from nmsim.workload.decode import RESERVED_PREFIX, PlanHeader, PlanHeaders, decode_trace
from nmsim.workload.encode import encode_trace, plan_digest
from nmsim.workload.fields import Place
from nmsim.workload.tensors import open_tensors, read_mask, read_weights_file, write_tensors
from nmsim.workload.trace import TileWisePlan, Trace
from nmsim.workload.validate import trace_findings

SUFFIX = ".nmtrace"
MANIFEST = "manifest.json"
MASKS = "masks.safetensors"
WEIGHTS = "weights.safetensors"
MAX_MANIFEST_BYTES = 2**28
"""A manifest is some hundred bytes a GEMM; beyond this it is no manifest."""


def write_trace(trace: Trace, path: str | Path, weights: Mapping[str, NDArray[np.float16]] | None = None) -> Path:
    """Writes `trace` to the folder `path` (NAME.nmtrace), replacing a trace that is there, and returns the folder.

    `weights` are float16 master weights by module, stored beside it. InputError where the trace contradicts itself.
    """
    folder = Path(path)
    if folder.suffix != SUFFIX:
        raise InputError("a trace is a folder NAME.nmtrace", value=str(path), fix=f"add {SUFFIX}")
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        raise InputError("something that is no trace is already there", file=folder, fix="choose another name")
    with _system_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = _sibling(folder, "new")
        draft.mkdir()
        try:
            _write_files(trace, draft, weights)
            _read(draft, shown_as=folder)
            _replace(folder, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def read_trace(path: str | Path) -> Trace:
    """The trace in the folder `path`; InputError names the first thing in it that is missing, malformed or untrue.

    Mask and plan arrays come read-only, so that what was checked of them stays true.
    """
    return _read(Path(path), shown_as=Path(path))


def trace_file_findings(path: str | Path) -> Iterator[InputError]:
    """All contradictions of the trace in `path`, not raised; a file that can't be read at all is raised as by `read_trace`."""
    folder = Path(path)
    with _system_errors(folder):
        yield from trace_findings(_load(folder, shown_as=folder), folder / MANIFEST)


def read_weights(path: str | Path) -> dict[str, NDArray[np.float16]]:
    """The float16 master weights kept beside a trace, by module; empty where none were kept."""
    file = Path(path) / WEIGHTS
    with _system_errors(file):
        return read_weights_file(file) if file.exists() else {}


def _read(folder: Path, shown_as: Path) -> Trace:
    with _system_errors(shown_as):
        trace = _load(folder, shown_as)
    for finding in trace_findings(trace, shown_as / MANIFEST):
        raise finding
    return trace


def _load(folder: Path, shown_as: Path) -> Trace:
    """Decodes the manifest and fetches the arrays it names; what they mean together is checked by the caller."""
    if folder.is_file():
        raise InputError("is a file, and a trace is a folder", file=shown_as, fix="unpack it, and give the folder NAME.nmtrace")
    if not folder.is_dir():
        raise InputError("there is no such trace", file=shown_as, fix="give the folder NAME.nmtrace")
    _refuse_links_out(folder, shown_as)
    file = shown_as / MANIFEST
    trace, headers = decode_trace(_parse_json(folder / MANIFEST, file), Place(file))
    stored = sorted(key for key, record in trace.masks.items() if record.payload)
    planned = sorted(name for density, plans in headers.items() for module in plans for name in _plan_keys(density, module))
    if not stored and not planned and not (folder / MASKS).exists():
        return trace
    with open_tensors(folder / MASKS, shown_as / MASKS) as tensors:
        for name in sorted(set(tensors.keys()) - {*stored, *planned}):
            raise InputError("a tensor that the manifest does not name", file=shown_as / MASKS, value=name, fix="drop it, or record it")
        payloads = {key: read_mask(tensors, key, trace.masks[key].shape, shown_as / MASKS) for key in stored}
        plans = _load_plans(headers, tensors, shown_as)
    return replace(trace, payloads=payloads, tile_wise=plans)


def _refuse_links_out(folder: Path, shown_as: Path) -> None:
    """InputError for a file of the trace that is a link to somewhere else: a trace from elsewhere must not read what it was not given."""
    inside = folder.resolve()
    for name in (MANIFEST, MASKS, WEIGHTS):
        if (folder / name).is_symlink() and not (folder / name).resolve().is_relative_to(inside):
            raise InputError("is a link that leads out of the trace", file=shown_as / name, fix="copy the file into the folder")


def _parse_json(file: Path, shown_as: Path) -> Any:
    if not file.is_file():
        raise InputError("the file is missing", file=shown_as, fix="record the trace again")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise InputError(f"is larger than {MAX_MANIFEST_BYTES} bytes, which no manifest is", file=shown_as)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError("an object has one key twice", file=shown_as, value=twice, fix="keep one")
        return found

    def not_finite(text: str) -> NoReturn:
        raise InputError("a number is not finite", file=shown_as, value=text, fix="write null where nothing was measured")

    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique, parse_constant=not_finite)
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON ({error.msg})", file=shown_as, line=error.lineno) from None
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", file=shown_as, value=error.object[error.start : error.end]) from None
    except (ValueError, RecursionError):
        raise InputError("holds a number too long, or objects too deep, to be a manifest", file=shown_as) from None


def _plan_keys(density: str, module: str) -> tuple[str, str]:
    """Names of the stored columns and rows of a plan, e.g. `tile_wise/1of2/fc1.columns`."""
    stem = f"{RESERVED_PREFIX}{density.replace('/', 'of')}/{module}"
    return f"{stem}.columns", f"{stem}.rows"


def _load_plans(headers: PlanHeaders, tensors: Any, shown_as: Path) -> dict[str, dict[str, TileWisePlan]]:
    return {
        density: {module: _load_plan(header, density, module, tensors, shown_as) for module, header in plans.items()}
        for density, plans in headers.items()
    }


def _load_plan(header: PlanHeader, density: str, module: str, tensors: Any, shown_as: Path) -> TileWisePlan:
    columns_key, rows_key = _plan_keys(density, module)
    columns = read_mask(tensors, columns_key, (header.columns,), shown_as / MASKS)
    rows = read_mask(tensors, rows_key, (header.tiles, header.rows), shown_as / MASKS)
    plan = TileWisePlan(header.tile_width, columns, rows)
    if plan_digest(plan) != header.digest:
        place = Place(shown_as / MANIFEST, "tile_wise").item(density).item(module).key("digest")
        raise place.refusal("is not the digest of the stored plan", header.digest, "record the trace again")
    return plan


def _write_files(trace: Trace, folder: Path, weights: Mapping[str, NDArray[np.float16]] | None) -> None:
    arrays = {key: pack_mask(payload) for key, payload in trace.payloads.items()}
    for density, plans in trace.tile_wise.items():
        for module, plan in plans.items():
            columns_key, rows_key = _plan_keys(density, module)
            arrays |= {columns_key: pack_mask(plan.columns), rows_key: pack_mask(plan.rows)}
    write_tensors(arrays, folder / MASKS)
    if weights is not None:
        write_tensors(dict(weights), folder / WEIGHTS)
        read_weights_file(folder / WEIGHTS)
    try:
        text = json.dumps(encode_trace(trace), indent=1, allow_nan=False, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    except (TypeError, ValueError) as error:
        raise InputError(f"the trace is not plain data ({error})", fix="use Python's own int, float, str, bool and None") from None


def _sibling(folder: Path, word: str) -> Path:
    return folder.with_name(f".{folder.name}.{word}.{secrets.token_hex(4)}")


def _replace(folder: Path, draft: Path) -> None:
    """Puts the finished `draft` in the place of `folder`; a folder can't be renamed over a full one, so that steps aside."""
    if not folder.exists():
        os.rename(draft, folder)
        return
    aside = _sibling(folder, "old")
    os.rename(folder, aside)
    os.rename(draft, folder)
    shutil.rmtree(aside)


@contextmanager
def _system_errors(file: Path) -> Iterator[None]:
    """Turns a refusal of the operating system (permission, full disk) into one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(f"can't be read or written ({error.strerror or error})", file=error.filename or file) from None
