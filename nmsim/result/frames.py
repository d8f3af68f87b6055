"""Results as tidy tables, and back.

Not kept: a provenance (it goes beside the tables, see `nmsim.result.store`) and the totals, which the rows determine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nmsim.errors import InputError
from nmsim.keys import canonical_json, content_key
from nmsim.result.rows import Ceilings, KernelRow, SimulationResult
from nmsim.result.schema import COUNTER_UNITS, ENERGY_COLUMNS, KERNEL_SCALARS, STALL_COLUMNS, TABLES, arrow_schema
from nmsim.result.totals import phase_totals, scheme_totals

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Record = dict[str, Any]


def run_key(*, arch_key: str, trace_key: str, model_version: str, engine: str, options: Mapping[str, Any]) -> str:
    """The name of a run: a key over what its numbers come from, known before it is simulated.

    The engine is part of it, although both give the same numbers, so that what is stored as one was computed by it.
    """
    return content_key({"arch": arch_key, "trace": trace_key, "model_version": model_version, "engine": engine, "options": dict(options)})


def key_of(result: SimulationResult) -> str:
    """The `run_key` of a finished run."""
    return run_key(
        arch_key=result.arch_key,
        trace_key=result.trace_key,
        model_version=result.model_version,
        engine=result.engine,
        options=result.options,
    )


def runs_frame(results: Iterable[SimulationResult]) -> pd.DataFrame:
    """A row a run: names, keys, options, notes and ceilings."""
    return _frame(results, "runs")


def kernels_frame(results: Iterable[SimulationResult]) -> pd.DataFrame:
    """A row a GEMM, operator or pass x scheme, wide: units in the column names, a column for each stall and energy unit."""
    return _frame(results, "kernels")


def counters_frame(results: Iterable[SimulationResult]) -> pd.DataFrame:
    """A row a kernel x scheme x metric, long; `instance` is `chip` for the whole-chip totals."""
    return _frame(results, "counters")


def arrow_tables(result: SimulationResult) -> dict[str, pa.Table]:
    """The three tables of one run, keyed as in TABLES; InputError for a count beyond 64 bits."""
    import pyarrow as pa

    try:
        return {name: pa.Table.from_pylist(records, arrow_schema(name)) for name, records in _records(result).items()}
    except OverflowError:
        raise InputError("a counter does not fit 64 bits", path=result.trace, fix="simulate a smaller --batch") from None


def result_of_tables(tables: Mapping[str, pa.Table], provenance: Mapping[str, Any]) -> SimulationResult:
    """The inverse of `arrow_tables`; counts, stalls and energies that a row left out come back as zeros."""
    run: Record = tables["runs"].to_pylist()[0]
    counters: dict[int, dict[str, int]] = {}
    for record in tables["counters"].select(["row", "metric", "value"]).to_pylist():
        counters.setdefault(record["row"], {})[record["metric"]] = record["value"]
    rows = tuple(_row(record, counters.get(record["row"], {})) for record in tables["kernels"].to_pylist())
    return SimulationResult(
        arch=run["arch"],
        arch_key=run["arch_key"],
        trace=run["trace"],
        trace_key=run["trace_key"],
        model_version=run["model_version"],
        engine=run["engine"],
        options=json.loads(run["options_json"]),
        provenance=provenance,
        ceilings=Ceilings(
            clock_mhz=run["ceiling_clock_mhz"],
            dense_tflops=run["ceiling_dense_tflops"],
            nm_tflops=json.loads(run["ceiling_nm_tflops_json"]),
            l2_gb_per_s=run["ceiling_l2_gb_per_s"],
            dram_gb_per_s=run["ceiling_dram_gb_per_s"],
            shared_memory_gb_per_s=run["ceiling_shared_memory_gb_per_s"],
        ),
        rows=rows,
        phases=phase_totals(rows),
        total=scheme_totals(rows),
        notes=tuple(json.loads(run["notes_json"])),
        sources=json.loads(run["sources_json"]),
    )


def _frame(results: Iterable[SimulationResult], table: str) -> pd.DataFrame:
    import pyarrow as pa

    parts = [arrow_tables(result)[table] for result in results]
    frame: pd.DataFrame = pa.concat_tables([arrow_schema(table).empty_table(), *parts]).to_pandas()
    return frame


def _records(result: SimulationResult) -> dict[str, Sequence[Record]]:
    key = key_of(result)
    return {
        "runs": [_run_record(key, result)],
        "kernels": [_kernel_record(key, number, row) for number, row in enumerate(result.rows)],
        "counters": [record for number, row in enumerate(result.rows) for record in _counter_records(key, number, row)],
    }


def _run_record(key: str, result: SimulationResult) -> Record:
    ceilings = result.ceilings
    values = (
        key,
        result.arch,
        result.arch_key,
        result.trace,
        result.trace_key,
        result.model_version,
        result.engine,
        canonical_json(dict(result.options)),
        canonical_json(list(result.notes)),
        ceilings.clock_mhz,
        ceilings.dense_tflops,
        canonical_json(dict(ceilings.nm_tflops)),
        ceilings.l2_gb_per_s,
        ceilings.dram_gb_per_s,
        ceilings.shared_memory_gb_per_s,
        json.dumps(dict(result.sources)),
    )
    return dict(zip(TABLES["runs"], values, strict=True))


def _kernel_record(key: str, number: int, row: KernelRow) -> Record:
    return {
        "run_key": key,
        "row": number,
        **{name: getattr(row, name) for name in KERNEL_SCALARS},
        **{column: row.stall_cycles.get(name, 0.0) for name, column in STALL_COLUMNS.items()},
        **{column: row.energy_by_unit_j.get(unit, 0.0) for unit, column in ENERGY_COLUMNS.items()},
    }


def _counter_records(key: str, number: int, row: KernelRow) -> list[Record]:
    return [
        {
            "run_key": key,
            "row": number,
            "gemm_id": row.gemm_id,
            "scheme": row.scheme,
            "unit": unit,
            "instance": "chip",
            "metric": metric,
            "value": row.counters.get(metric, 0),
            "unit_of_measure": unit_of_measure,
        }
        for metric, (unit, unit_of_measure) in COUNTER_UNITS.items()
    ]


def _row(record: Record, counters: dict[str, int]) -> KernelRow:
    return KernelRow(
        **{name: record[name] for name in KERNEL_SCALARS},
        stall_cycles={name: record[column] for name, column in STALL_COLUMNS.items()},
        energy_by_unit_j={unit: record[column] for unit, column in ENERGY_COLUMNS.items()},
        counters=counters,
    )
