"""The points of a sweep on disk: which there are, where each one lies, what each one says.

    DIR/sweep.json              the points of the sweep in their order: coordinates and point key of each
    DIR/<point key>/            one folder a point, whole or absent:
        point.parquet           a row a scheme x phase (POINT_COLUMNS), or one row that says why the point failed
        runs.parquet  kernels.parquet  counters.parquet  manifest.json      the run, as `nmsim.result.store` writes any other

A failed point has `point.parquet` alone. `manifest.json` holds the trace's provenance, and with it accuracy and loss.
Folders that sweep.json does not name belong to an earlier sweep with other axes: they are kept, and used again if those come back.

To read: `is_sweep`, `read_sweep` (the plan), `read_points` (a row a point x scheme x phase), `read_totals` (a row a point x
scheme, with speed-ups), and `nmsim.result.store.read_results(DIR / point_key)` for the kernels of one point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError
from nmsim.keys import content_key
from nmsim.result.rows import ENERGY_UNITS, PHASES, KernelRow, SimulationResult
from nmsim.result.schema import ENERGY_COLUMNS, STALL_COLUMNS
from nmsim.result.whole_run import RunTotal
from nmsim.rules.stalls import STALL_NAMES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SWEEP = "sweep.json"
POINT = "point.parquet"
SWEEP_SCHEMA = "nmsim-sweep/1"


@dataclass(frozen=True)
class Coordinates:
    """Where a point lies on the axes of its sweep, in words; of equal coordinates a sweep has one point."""

    arch: str
    """The machine's file without its ending."""
    overrides: str
    """`sm.count=144 l2.size_mb=80`, keys in the order of the sweep; empty for the machine as it is."""
    workload: str
    """The network: traces of the same layers, whatever their recipe, share it."""
    recipe: str
    trace: str
    """Name of the trace; empty where none has this recipe."""
    pattern: str
    """N:M, `dense`, or `mixed` where layers differ."""
    batch: int
    """Samples; 0 where it is the recorded one of a trace that is missing."""
    dtype: str
    l2: str
    engine: str


COORDINATES: tuple[str, ...] = tuple(field.name for field in fields(Coordinates))

POINT_COLUMNS: Mapping[str, str] = {
    "point_key": "str",
    "run_key": "str",  # of the run, as in the other tables; empty for a failed point
    **{field.name: str(field.type) for field in fields(Coordinates)},
    "status": "str",  # ok | failed
    "error_kind": "str",  # empty | input (of the user) | internal (of nmsim) | worker (it died)
    "error": "str",
    "accuracy": "str",  # trained (the manifest's is this pattern's) | untrained (nobody trained this)
    "legality": "str",  # checked | assumed | none (nothing ran sparse)
    "scheme": "str",
    "phase": "str",
    "kernels": "int",
    "gemms": "int",
    "sparse_gemms": "int",
    "clock_mhz": "int",
    "cycles": "float",
    "busy_cycles": "float",
    "launch_us": "float",
    "time_us": "float",
    "energy_j": "float",
    "executed_macs": "float",
    "dense_equivalent_macs": "float",
    "l2_bytes": "float",
    "dram_bytes": "float",
    **dict.fromkeys(STALL_COLUMNS.values(), "float"),
    **dict.fromkeys(ENERGY_COLUMNS.values(), "float"),
    "run_steps": "int",
    "run_time_s": "float",
    "run_energy_j": "float",
}
"""Columns of point.parquet and their types; sums over the kernels of a phase, units in the names.

`clock_mhz` and `run_*` are the scheme's and the same in each of its phases. `run_*` are of the whole run that the trace's schedule
describes, 0 where it has none or its other stages are away, or the pattern is not the recorded one.
"""

OF_SCHEME: tuple[str, ...] = ("clock_mhz", "run_steps", "run_time_s", "run_energy_j")
ADDED: tuple[str, ...] = tuple(name for name in list(POINT_COLUMNS)[list(POINT_COLUMNS).index("kernels") :] if name not in OF_SCHEME)
"""The columns that add up over phases."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """The plan of a sweep as stored: its points in order."""

    points: tuple[tuple[str, Coordinates], ...]

    @property
    def point_keys(self) -> tuple[str, ...]:
        """Names of the points' folders."""
        return tuple(key for key, _ in self.points)


def point_key(coordinates: Coordinates, run_key: str, stages: Sequence[tuple[int, str]] = ()) -> str:
    """Name of a point: a key over its coordinates and over everything its numbers come from.

    That is `run_key` (empty if unknown) and, for a whole run, the (steps, trace key) of each stage.
    """
    return content_key({"coordinates": asdict(coordinates), "run": run_key, "stages": [list(stage) for stage in stages]})


def sweep_file(sweep: Sweep) -> bytes:
    """The content of sweep.json."""
    points = [{"point_key": key, **asdict(coordinates)} for key, coordinates in sweep.points]
    return (json.dumps({"schema": SWEEP_SCHEMA, "points": points}, indent=1, allow_nan=False) + "\n").encode()


def result_records(
    key: str, run_key: str, coordinates: Coordinates, result: SimulationResult, whole_run: Mapping[str, RunTotal] | None = None
) -> list[Record]:
    """The rows of a point that was simulated: every scheme x phase, phases without kernels included."""
    traced = [row for row in result.rows if row.scheme == "traced"]
    sparse = [row for row in traced if row.ran_sparse]
    said = {
        "status": "ok",
        "accuracy": "trained" if result.provenance.get("kind") == "trained" else "untrained",
        "legality": "none" if not sparse else "assumed" if any("assumed" in row.reason for row in sparse) else "checked",
    }
    records = []
    for scheme in result.total:
        of_scheme = [row for row in result.rows if row.scheme == scheme]
        for phase in PHASES:
            sums = _sums([row for row in of_scheme if row.phase == phase])
            run = (whole_run or {}).get(scheme, RunTotal(0, 0.0, 0.0, None))
            of_all = {"run_steps": run.steps, "run_time_s": run.time_s, "run_energy_j": run.energy_j}
            same = {"scheme": scheme, "phase": phase, "clock_mhz": of_scheme[0].clock_mhz} | of_all
            records.append(_record(key, run_key, coordinates) | said | same | sums)
    return records


def failed_records(key: str, coordinates: Coordinates, kind: str, error: str) -> list[Record]:
    """The one row of a point that could not be simulated."""
    return [_record(key, "", coordinates) | {"status": "failed", "error_kind": kind, "error": error, "accuracy": "untrained"}]


def point_file(records: Sequence[Record]) -> bytes:
    """The content of point.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(records), _schema()), buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def is_sweep(directory: Path) -> bool:
    """True for a folder that `nmsim sweep` wrote."""
    return (directory / SWEEP).is_file()


def read_sweep(directory: Path) -> Sweep:
    """The plan of the sweep in `directory`; InputError where there is none, or another version's."""
    file = directory / SWEEP
    if not file.is_file():
        raise InputError("no sweep here", file=directory, fix="write one with `nmsim sweep ... --out DIR`")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        schema = data["schema"] if isinstance(data, dict) else None
        if schema != SWEEP_SCHEMA:
            raise InputError(
                f"another schema than this version of nmsim reads ({SWEEP_SCHEMA})", file=file, value=schema, fix="sweep again"
            )
        entries = data["points"]
        points = tuple((str(one["point_key"]), Coordinates(**{name: one[name] for name in COORDINATES})) for one in entries)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"not a readable plan of a sweep ({error})", file=file, fix="run the sweep again") from None
    if any(len(key) != 64 or not key.isalnum() for key, _ in points):
        raise InputError("a point's key names no folder of a point", file=file, fix="run the sweep again")
    return Sweep(points)


def read_point(directory: Path, key: str) -> list[Record] | None:
    """The rows of one point; None where it is not there, or not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: pa.Table = pq.read_table(directory / key / POINT, partitioning=None)
    except (OSError, pa.ArrowException):
        return None
    if not table.schema.equals(_schema()) or not table.num_rows:
        return None
    records: list[Record] = table.to_pylist()
    return records


def read_points(directory: Path) -> pd.DataFrame:
    """A row a point x scheme x phase in the order of the sweep, failed points one row each; points not yet done are absent."""
    import pandas as pd

    records = [record for key in read_sweep(directory).point_keys for record in read_point(directory, key) or ()]
    return pd.DataFrame.from_records(records, columns=list(POINT_COLUMNS))


def read_totals(directory: Path) -> pd.DataFrame:
    """A row a point x scheme: sums over the phases, and `speedup_vs_dense`, `speedup_vs_tile_wise` (NaN without that scheme)."""
    return totals_of(read_points(directory))


def totals_of(points: pd.DataFrame) -> pd.DataFrame:
    """`read_totals` of rows at hand."""
    kept = [name for name in POINT_COLUMNS if name not in ADDED and name != "phase"]
    totals = (
        points.groupby(kept, sort=False, dropna=False)[list(ADDED)].sum().reset_index()[[name for name in POINT_COLUMNS if name != "phase"]]
    )
    for reference in ("dense", "tile_wise"):
        times = totals[totals["scheme"] == reference].set_index("point_key")["time_us"]
        referred = totals["point_key"].map(times)
        totals[f"speedup_vs_{reference}"] = (referred / totals["time_us"]).where(totals["time_us"] > 0)
    return totals


def _record(key: str, run_key: str, coordinates: Coordinates) -> Record:
    blank: Record = {name: {"str": "", "int": 0, "float": 0.0}[kind] for name, kind in POINT_COLUMNS.items()}
    return blank | {"point_key": key, "run_key": run_key, "legality": "none", **asdict(coordinates)}


def _sums(rows: Sequence[KernelRow]) -> Record:
    gemms = [row for row in rows if row.kind == "gemm"]

    def counted(*names: str) -> float:
        return float(sum(row.counters.get(name, 0) for row in rows for name in names))

    def added(values: Sequence[float]) -> float:
        total = 0.0
        for value in values:  # left to right, whatever version of Python adds
            total += value
        return total

    return {
        "kernels": len(rows),
        "gemms": len(gemms),
        "sparse_gemms": sum(row.ran_sparse for row in gemms),
        **{name: added([getattr(row, name) for row in rows]) for name in ("cycles", "busy_cycles", "launch_us", "time_us", "energy_j")},
        "executed_macs": counted("executed_macs"),
        "dense_equivalent_macs": counted("dense_equivalent_macs"),
        "l2_bytes": counted("l2_read_bytes", "l2_write_bytes"),
        "dram_bytes": counted("dram_read_bytes", "dram_write_bytes"),
        **{STALL_COLUMNS[name]: added([row.stall_cycles.get(name, 0.0) for row in rows]) for name in STALL_NAMES},
        **{ENERGY_COLUMNS[unit]: added([row.energy_by_unit_j.get(unit, 0.0) for row in rows]) for unit in ENERGY_UNITS},
    }


def _schema() -> pa.Schema:
    import pyarrow as pa

    arrow_types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    columns = [pa.field(name, arrow_types[kind], nullable=False) for name, kind in POINT_COLUMNS.items()]
    return pa.schema(columns, metadata={"nmsim_schema": SWEEP_SCHEMA})
