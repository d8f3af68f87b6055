import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec

SMALL_MACHINE: dict[str, Any] = {
    "schema": "nmsim-arch/1",
    "name": "small",
    "kind": "gpu",
    "clock": {"boost_mhz": 1000, "min_mhz": 500, "step_mhz": 50},
    "sm": {
        "count": 4,
        "max_warps": 64,
        "max_ctas": 32,
        "registers": 65536,
        "shared_memory_bytes": 167936,
        "shared_memory_per_cta_bytes": 166912,
        "shared_memory_reserved_per_cta_bytes": 1024,
        "schedulers": 4,
        "fp32_fma_per_cycle": 64,
        "cta_launch_cycles": 100,
    },
    "shared_memory": {"banks": 32, "bank_bytes": 4, "latency_cycles": 29},
    "tensor_core": {
        "per_sm": 4,
        "mma": [
            {"dtype": "fp16", "shape": [16, 8, 16], "issue_interval_cycles": 8, "latency_cycles": 25},
            {"dtype": "fp16", "pattern": "2:4", "shape": [16, 8, 32], "issue_interval_cycles": 8, "latency_cycles": 25},
        ],
        "decoder": {"codes_per_cycle": 64, "latency_cycles": 0},
        "register_read_bytes_per_cycle": 256,
    },
    "noc": {"sm_port_bytes_per_cycle": 64, "sm_write_bytes_per_cycle": 32},
    "l2": {
        "capacity_bytes": 4194304,
        "partitions": 2,
        "slices_per_partition": 8,
        "bytes_per_cycle_per_slice": 64,
        "clock_mhz": 1000,
        "sustained_fraction": 0.75,
        "near_latency_cycles": 200,
        "far_latency_cycles": 350,
        "block_bytes": 8192,
    },
    "dram": {
        "capacity_gib": 8,
        "channels": 4,
        "bandwidth_gb_per_s": 200,
        "interleave_bytes": 256,
        "banks": 16,
        "row_bytes": 1024,
        "controller_ns": 150,
        "cas_ns": 14,
        "row_to_column_ns": 14,
        "precharge_ns": 14,
        "row_active_ns": 34,
        "turnaround_ns": 12,
        "write_batch": 16,
        "refresh_interval_ns": 3900,
        "refresh_ns": 260,
    },
    "kernels": {
        "tiles": [{"cta": [128, 128, 64], "warp": [64, 64], "stages": 4}, {"cta": [64, 64, 128], "warp": [32, 32], "stages": 4}],
        "max_split_k": 4,
        "split_k_handover_ns": 1000,
        "split_k_margin": 0.2,
        "raster_width": 8,
        "registers_per_thread": 90,
    },
    "launch": {"kernel_us": 2.5, "nm_extra_us": 1.7},
    "energy": {
        "mac_pj": {"fp16": 0.8},
        "cuda_core_flop_pj": 6,
        "metadata_code_pj": 0.1,
        "shared_memory_pj_per_byte": 6,
        "l2_pj_per_byte": 19,
        "dram_pj_per_byte": 85,
        "dram_activate_pj": 909,
    },
    "power": {"board_limit_w": 100, "static_w": 20},
}
for _block in ("clock", "sm", "shared_memory", "tensor_core", "noc", "l2", "dram", "kernels", "launch", "energy", "power"):
    SMALL_MACHINE[_block]["sources"] = {"*": "assumption: a machine for tests"}
SMALL_MACHINE["tensor_core"]["decoder"]["sources"] = {"*": "assumption: a machine for tests"}


@pytest.fixture
def small_machine() -> dict[str, Any]:
    """Plain data of a small machine that loads and checks clean; yours to change."""
    return deepcopy(SMALL_MACHINE)


@pytest.fixture
def write_machine(tmp_path: Path) -> Callable[..., Path]:
    """Write plain data (JSON is YAML) or YAML text to a file in the test's folder."""

    def write(content: dict[str, Any] | str, name: str = "machine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(write_machine: Callable[..., Path]) -> Callable[..., GpuSpec]:
    """Write and load in one go."""
    return lambda content, *overrides: load_gpu(write_machine(content), overrides)
