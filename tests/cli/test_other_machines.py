"""Tile-wise what-ifs, other formats and systolic steps from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "workloads" / "digits_resnet_sr_ste_2to4.nmtrace"
Run = Callable[..., Any]


def test_gemm_takes_what_a_tile_wise_weight_keeps(nmsim: Run, ampere: Path) -> None:
    shape = ("--m", 512, "--n", 512, "--k", 512)
    kept = nmsim("gemm", ampere, *shape, "--tile-wise", "--keep-n", 256, "--keep-k", 256, "--json")
    assert kept.code == 0
    result = json.loads(kept.out)
    assert result["native_pattern"] == "dense"
    assert "2 tiles of 256 rows, 256 columns in all" in result["notes"]
    streams = json.loads(nmsim("gemm", ampere, *shape, "--tile-wise", "--keep-n", 256, "--keep-k", 256, "--streams", "--json").out)
    assert streams["launch_us"] == 2 * result["launch_us"]
    refused = nmsim("gemm", ampere, *shape, "--tile-wise", "--keep-k", 4096)
    assert refused.code == 2
    assert "--keep-k: must be between 1 and 512" in refused.err


def test_simulate_names_the_formats_it_knows(nmsim: Run, ampere: Path) -> None:
    ran = nmsim("simulate", ampere, TRACE, "--baseline", "block-sparse", "--json")
    assert ran.code == 0
    assert set(json.loads(ran.out)["total"]) == {"traced", "block_sparse"}
    refused = nmsim("simulate", ampere, TRACE, "--baseline", "csr")
    assert refused.code == 2
    assert "no such scheme" in refused.err
    assert "unstructured" in refused.err


def test_simulate_runs_on_a_systolic_array(nmsim: Run) -> None:
    array = ROOT / "arch_configs" / "systolic_128.yaml"
    ran = nmsim("simulate", array, TRACE, "--dtype", "fp16", "--json")
    assert ran.code == 0
    result = json.loads(ran.out)
    assert set(result["total"]) == {"traced", "dense"}
    forward = {row["scheme"]: row["cycles"] for row in result["phases"] if row["phase"] == "forward"}
    assert forward["traced"] < forward["dense"]
    text = nmsim("simulate", array, TRACE, "--dtype", "fp16", "--rows", 2)
    assert "systolic" in text.out.lower()
    refused = nmsim("simulate", array, TRACE, "--dtype", "fp16", "--baseline", "tile-wise")
    assert refused.code == 2
    assert "does not run this scheme" in refused.err
