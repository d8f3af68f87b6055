"""Results on disk: one folder a run, named by its key.

    DIR/<run key>/runs.parquet  kernels.parquet  counters.parquet  manifest.json

A folder is written under a temporary name and then renamed, so that a killed run leaves no half result. No file holds a
time of day: the same result gives the same bytes. A sweep's folder
holds one such folder a point (`nmsim.result.points`). `manifest.json` holds the provenance of the trace (accuracy, loss, recipe).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError, PhysicsError
from nmsim.result.folders import place_folder
from nmsim.result.frames import arrow_tables, key_of, result_of_tables
from nmsim.result.points import is_sweep, read_sweep
from nmsim.result.rows import SimulationResult
from nmsim.result.schema import RESULTS_SCHEMA, TABLES, arrow_schema
from nmsim.result.totals import phase_totals, scheme_totals

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
TRACE_SUFFIX = ".nmtrace"
_RUN_KEY = re.compile(r"[0-9a-f]{64}")
_FAMILY = RESULTS_SCHEMA.partition("/")[0] + "/"


def write_results(results: Iterable[SimulationResult], directory: Path) -> tuple[Path, ...]:
    """Write each result to its folder under `directory` (made if missing) and return the folders.

    A folder of the same key is replaced. InputError where the place cannot be written; PhysicsError for a result whose
    phases or totals are not the sums of its rows.
    """
    return tuple(place_folder(directory, key_of(result), run_files(result)) for result in results)


def read_results(directory: Path) -> tuple[SimulationResult, ...]:
    """Every run under `directory` (or the one run that it is), ordered by machine, trace and key; of a sweep, its current points.

    Other folders in it, traces among them, are passed over.
    InputError for a folder without results, an unreadable or incomplete file, or another schema version.
    """
    if not directory.is_dir():
        raise InputError("no such folder of results", file=directory, fix="write one with `nmsim simulate ... --out DIR`")
    manifests = _manifests(directory)
    if not manifests:
        raise InputError("the folder holds no results", file=directory, fix="write some with `nmsim simulate ... --out DIR`")
    return tuple(sorted(map(_read_run, manifests), key=lambda result: (result.arch, result.trace, key_of(result))))


def run_files(result: SimulationResult) -> dict[str, bytes]:
    """The files of a run's folder: the same bytes for the same result.

    PhysicsError for a result whose phases or totals are not the sums of its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if tuple(result.phases) != phase_totals(result.rows) or dict(result.total) != scheme_totals(result.rows):
        raise PhysicsError(f"the phases and totals of {result.trace} on {result.arch} are not the sums of its rows")
    tables = arrow_tables(result)
    manifest = {
        "schema": RESULTS_SCHEMA,
        "run_key": key_of(result),
        "rows": {name: table.num_rows for name, table in tables.items()},
        "provenance": dict(result.provenance),
    }
    files = {MANIFEST: (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()}
    for name, table in tables.items():
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        files[f"{name}.parquet"] = buffer.getvalue().to_pybytes()
    return files


def _manifests(directory: Path) -> list[Path]:
    if is_sweep(directory):
        return [manifest for name in read_sweep(directory).point_keys if (manifest := directory / name / MANIFEST).is_file()]
    own = directory / MANIFEST
    return [own] if own.is_file() else sorted(path for path in directory.glob(f"*/{MANIFEST}") if _is_ours(path))


def _is_ours(manifest: Path) -> bool:
    """Whether a folder with a manifest is a run: by its name, a run key, or because the manifest says so."""
    if _RUN_KEY.fullmatch(manifest.parent.name):
        return True
    if manifest.parent.name.startswith(".") or manifest.parent.suffix == TRACE_SUFFIX:
        return False
    try:
        return f'"schema": "{_FAMILY}' in manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _read_run(manifest_file: Path) -> SimulationResult:
    manifest = _read_manifest(manifest_file)
    tables = {name: _read_table(manifest_file.with_name(f"{name}.parquet"), name, manifest["rows"].get(name)) for name in TABLES}
    try:
        return result_of_tables(tables, manifest["provenance"])
    except (PhysicsError, ValueError, LookupError) as error:  # a damaged cell: what is stored was checked before it was written
        raise InputError(
            f"the tables do not make a result ({error})", file=manifest_file.parent, fix="delete it and simulate again"
        ) from None


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
