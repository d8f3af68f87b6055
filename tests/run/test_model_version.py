"""Results of one model version never change: a change of timing or energy shows here and asks for a new MODEL_VERSION."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import nmsim
from nmsim.api import simulate_gemm

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden_gemms.json"
ARCH_CONFIGS = Path(__file__).resolve().parents[2] / "arch_configs"
CASES: dict[str, dict[str, Any]] = {
    "dense": {"arch": "ampere.yaml", "m": 1000, "n": 1024, "k": 2048},
    "2:4": {"arch": "ampere.yaml", "m": 640, "n": 1536, "k": 1024, "pattern": "2:4"},
    "split": {"arch": "ampere.yaml", "m": 64, "n": 512, "k": 8192},
    "warm, power-capped": {"arch": "ampere_pcie.yaml", "m": 4096, "n": 2048, "k": 2048, "l2": "warm"},
    "batched int8": {"arch": "ampere.yaml", "m": 128, "n": 128, "k": 64, "l": 96, "dtype": "int8", "out_dtype": "int32"},
    "systolic": {"arch": "systolic_32.yaml", "m": 100, "n": 130, "k": 70},
}


def measured(name: str) -> dict[str, float]:
    case = dict(CASES[name])
    result = simulate_gemm(ARCH_CONFIGS / case.pop("arch"), **case)
    return {"cycles": result.cycles, "clock_mhz": result.clock_mhz, "energy_j": result.energy_j}


@pytest.mark.parametrize("name", CASES)
def test_the_results_of_a_model_version_stay_what_they_are(name: str) -> None:
    """`NMSIM_RECORD_GOLDEN=1` writes the file anew, which is right only together with a new MODEL_VERSION."""
    kept = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {"results": {}}
    if os.environ.get("NMSIM_RECORD_GOLDEN"):
        results = (kept["results"] if kept.get("model_version") == nmsim.MODEL_VERSION else {}) | {name: measured(name)}
        GOLDEN.write_text(json.dumps({"model_version": nmsim.MODEL_VERSION, "results": results}, indent=1) + "\n", encoding="utf-8")
        return
    assert kept["model_version"] == nmsim.MODEL_VERSION, "record the golden results of the new version"
    assert measured(name) == pytest.approx(kept["results"][name], rel=1e-9), "timing or energy changed: raise MODEL_VERSION and record"
