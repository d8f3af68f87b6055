"""The same GEMM on a peer's simulator in the same run: SCALE-Sim v3, where an interpreter that has it is named."""

from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks.peers.scalesim import run_nmsim, run_scalesim

PYTHON = os.environ.get("SCALESIM_PYTHON", "")
TIMES_AS_FAST = 1000


@pytest.mark.skipif(
    not PYTHON, reason="SCALE-Sim pins an older numpy: see benchmarks/peers/scalesim.py, then set SCALESIM_PYTHON (2026-11-21)"
)
def test_a_gemm_takes_the_cycles_of_scalesim_and_a_thousandth_of_its_time(benchmark: Any) -> None:
    ours = run_nmsim(1024, 128, "ws", None)
    theirs: dict[str, float] = benchmark.pedantic(run_scalesim, (PYTHON, 1024, 128, "ws", None), rounds=1)
    ratio = theirs["seconds"] / ours["seconds"]
    benchmark.extra_info |= {"scalesim": theirs, "nmsim": ours, "times_as_fast": ratio}
    assert ours["cycles"] == theirs["cycles"] + 1  # it prints the index of the last cycle
    assert ratio >= TIMES_AS_FAST
