"""Committed traces on the machine: no product gains more than the MACs that its masks leave allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmsim.api import load_trace, simulate
from nmsim.workload.gemm import PHASES
from nmsim.workload.legality import usable_structure

ROOT = Path(__file__).parents[2]
ARCH = ROOT / "arch_configs" / "ampere.yaml"


def ideal_speedups(trace):
    """Phase -> all MACs over those left, by the recorded masks alone."""
    whole, left = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0)
    for gemm in trace.gemms:
        usable = [found for operand in (gemm.a, gemm.b) if (found := usable_structure(gemm, operand, trace)).ok and found.pattern]
        density = min((float(found.pattern.density) for found in usable if found.pattern is not None), default=1.0)
        whole[gemm.phase] += gemm.macs * gemm.repeat
        left[gemm.phase] += gemm.macs * gemm.repeat * density
    return {phase: whole[phase] / left[phase] for phase in PHASES}


@pytest.mark.parametrize(
    ("name", "batch", "sparse"),
    [
        ("digits_vit_sr_ste_2to4", 1024, 1),
        ("gpt_w256_transposable_2to4", 64, 2),
        ("gpt_w256_bdwp_2to4", 64, 2),
        ("gpt_w256_fst_2to4", 64, 3),
    ],
)
def test_a_step_stays_within_the_ideal_mac_budget_in_every_phase(name, batch, sparse):
    path = ROOT / "workloads" / f"{name}.nmtrace"
    ideal = ideal_speedups(load_trace(path))
    assert sum(ratio > 1.5 for ratio in ideal.values()) == sparse
    result = simulate(ARCH, path, batch=batch, baseline=("dense",))
    kernel_us: dict[tuple[str, str], float] = dict.fromkeys(((scheme, phase) for scheme in ("traced", "dense") for phase in PHASES), 0.0)
    for row in result.rows:
        if row.kind == "gemm":
            kernel_us[row.scheme, row.phase] += row.cycles / row.clock_mhz
    for phase in PHASES:
        assert kernel_us["dense", phase] / kernel_us["traced", phase] <= ideal[phase], phase
