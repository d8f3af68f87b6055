"""Results on disk: one folder a run, named by its key.

    DIR/<run key>/runs.parquet  kernels.parquet  counters.parquet  manifest.json

A folder is written under a temporary name and then renamed, so that a killed run leaves no half result. No file holds a
time of day: the same result gives the same bytes. `manifest.json` holds the provenance of the trace (accuracy, loss, recipe).
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError, PhysicsError
from nmsim.result.frames import arrow_tables, key_of, result_of_tables
from nmsim.result.rows import SimulationResult
from nmsim.result.schema import RESULTS_SCHEMA, TABLES, arrow_schema
from nmsim.result.totals import phase_totals, scheme_totals

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"


def write_results(results: Iterable[SimulationResult], directory: Path) -> tuple[Path, ...]:
    """Write each result to its folder under `directory` (made if missing) and return the folders.

    A folder of the same key is replaced. InputError where the place cannot be written; PhysicsError for a result whose
    phases or totals are not the sums of its rows.
    """
    return tuple(_write_run(result, directory) for result in results)


def read_results(directory: Path) -> tuple[SimulationResult, ...]:
    """Every run under `directory` (or the one run that it is), ordered by machine, trace and key.

    InputError for a folder without results, an unreadable or incomplete file, or another schema version.
    """
    if not directory.is_dir():
        raise InputError("no such folder of results", file=directory, fix="write one with `nmsim simulate ... --out DIR`")
    own = directory / MANIFEST
    manifests = [own] if own.is_file() else sorted(path for path in directory.glob(f"*/{MANIFEST}") if path.parent.name[0] != ".")
    if not manifests:
        raise InputError("the folder holds no results", file=directory, fix="write some with `nmsim simulate ... --out DIR`")
    return tuple(sorted(map(_read_run, manifests), key=lambda result: (result.arch, result.trace, key_of(result))))


def is_stored(directory: Path, run_key: str) -> bool:
    """True where the run of this key is complete under `directory`."""
    return (directory / run_key / MANIFEST).is_file()


def resume(directory: Path, run_key: str, simulate: Callable[[], SimulationResult]) -> SimulationResult:
    """The stored run of this key if there is one, otherwise `simulate()`, stored.

    PhysicsError where the run simulated turns out to have another key: a repeat would never find it.
    """
    if is_stored(directory, run_key):
        return _read_run(directory / run_key / MANIFEST)
    result = simulate()
    if key_of(result) != run_key:
        raise PhysicsError(f"the run was announced as {run_key[:12]} but its result has the key {key_of(result)[:12]}")
    write_results([result], directory)
    return result


def _write_run(result: SimulationResult, directory: Path) -> Path:
    if tuple(result.phases) != phase_totals(result.rows) or dict(result.total) != scheme_totals(result.rows):
        raise PhysicsError(f"the phases and totals of {result.trace} on {result.arch} are not the sums of its rows")
    tables = arrow_tables(result)
    key = key_of(result)
    manifest = {
        "schema": RESULTS_SCHEMA,
        "run_key": key,
        "rows": {name: table.num_rows for name, table in tables.items()},
        "provenance": dict(result.provenance),
    }
    place, temporary = directory / key, directory / f".{key}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        _write_files(temporary, tables, manifest)
        _put_in_place(temporary, place)
    except OSError as error:
        raise InputError(
            f"cannot write results here ({error.strerror or error})", file=directory, fix="choose another folder with --out"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _write_files(folder: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    import pyarrow.parquet as pq

    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _put_in_place(temporary: Path, place: Path) -> None:
    """Rename to the final name; what stood there is moved aside first and then deleted.

    Two workers may finish the same run at once. Theirs is the same result, so whoever comes second lets the first stand.
    """
    aside = temporary.with_name(temporary.name + ".old")
    if place.exists():
        place.rename(aside)
    try:
        temporary.rename(place)
    except OSError:
        if not (place / MANIFEST).is_file():
            if aside.exists():
                aside.rename(place)
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _read_run(manifest_file: Path) -> SimulationResult:
    manifest = _read_manifest(manifest_file)
    tables = {name: _read_table(manifest_file.with_name(f"{name}.parquet"), name, manifest["rows"].get(name)) for name in TABLES}
    return result_of_tables(tables, manifest["provenance"])


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not a readable results manifest ({error})", file=file, fix="delete its folder and simulate again") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != RESULTS_SCHEMA:
        raise InputError(
            f"the results have another schema than this version of nmsim reads ({RESULTS_SCHEMA})",
            file=file,
            path="schema",
            value=schema,
            fix="simulate again, or read them with the version that wrote them",
        )
    for key in ("rows", "provenance"):
        if not isinstance(manifest.get(key), dict):
            raise InputError("must be an object", file=file, path=key, value=manifest.get(key), fix="delete its folder and simulate again")
    return dict(manifest)


def _read_table(file: Path, name: str, rows: object) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    mend = "delete its folder and simulate again"
    try:
        table = pq.read_table(file, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "damaged or cut short"
        raise InputError(f"the {name} table is {reason}", file=file, fix=mend) from None
    if not table.schema.equals(arrow_schema(name)):
        raise InputError(f"the {name} table has other columns than {RESULTS_SCHEMA} has", file=file, fix=mend)
    if table.num_rows != rows:
        raise InputError(
            f"the {name} table does not have the {rows} rows that its manifest counts", file=file, value=table.num_rows, fix=mend
        )
    return table
