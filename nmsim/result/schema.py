"""The columns of the three result tables: fixed, whatever was simulated.

`runs` has a row a run, `kernels` a row a kernel x scheme (every stall and every energy unit is a column, always), `counters` a
row a kernel x scheme x action count. `row` numbers the kernels of a run in their order and joins the last two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from nmsim.result.rows import ENERGY_UNITS, KernelRow
from nmsim.rules.stalls import STALL_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS_SCHEMA = "nmsim-results/2"
"""Changes whenever a column or the manifest does."""

KERNEL_SCALARS: Mapping[str, str] = {f.name: str(f.type) for f in fields(KernelRow) if f.type in ("str", "int", "float", "bool")}
"""Scalar fields of a row and their types; the mappings of a row become a column per key."""

STALL_COLUMNS: Mapping[str, str] = {name: f"stall_{name}_cycles" for name in STALL_NAMES}
ENERGY_COLUMNS: Mapping[str, str] = {unit: f"energy_{unit}_j" for unit in ENERGY_UNITS}

COUNTER_UNITS: Mapping[str, tuple[str, str]] = {
    "executed_macs": ("tensor_core", "mac"),
    "dense_equivalent_macs": ("tensor_core", "mac"),
    "metadata_codes": ("metadata", "code"),
    "cuda_core_flops": ("cuda_core", "flop"),
    "shared_memory_bytes": ("shared_memory", "byte"),
    "l2_read_bytes": ("l2", "byte"),
    "l2_write_bytes": ("l2", "byte"),
    "dram_read_bytes": ("dram", "byte"),
    "dram_write_bytes": ("dram", "byte"),
    "dram_activates": ("dram", "activate"),
    "dram_accesses": ("dram", "access"),
    "l2_block_lookups": ("l2", "lookup"),
    "l2_block_misses": ("l2", "miss"),
    "k_tiles": ("sm", "k_tile"),
}
"""For each field of `Counters`: the unit that counts, and the unit of measure."""

TABLES: Mapping[str, Mapping[str, str]] = {
    "runs": {
        "run_key": "str",
        "arch": "str",
        "arch_key": "str",
        "trace": "str",
        "trace_key": "str",
        "model_version": "str",
        "engine": "str",
        "options_json": "str",
        "notes_json": "str",
        "ceiling_clock_mhz": "int",
        "ceiling_dense_tflops": "float",
        "ceiling_nm_tflops_json": "str",
        "ceiling_l2_gb_per_s": "float",
        "ceiling_dram_gb_per_s": "float",
        "ceiling_shared_memory_gb_per_s": "float",
        "sources_json": "str",
    },
    "kernels": {
        "run_key": "str",
        "row": "int",
        **KERNEL_SCALARS,
        **dict.fromkeys(STALL_COLUMNS.values(), "float"),
        **dict.fromkeys(ENERGY_COLUMNS.values(), "float"),
    },
    "counters": {
        "run_key": "str",
        "row": "int",
        "gemm_id": "str",
        "scheme": "str",
        "unit": "str",
        "instance": "str",
        "metric": "str",
        "value": "int",
        "unit_of_measure": "str",
    },
}


def arrow_schema(table: str) -> pa.Schema:
    """The pyarrow schema of one of TABLES, no column nullable, with the schema's version in its metadata."""
    import pyarrow as pa

    arrow_types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    columns = [pa.field(name, arrow_types[kind], nullable=False) for name, kind in TABLES[table].items()]
    return pa.schema(columns, metadata={"nmsim_schema": RESULTS_SCHEMA})
