"""Committed traces on the machine: no product gains more than the MACs that its masks leave allow.

What could break the bound: a launch more or fewer (left out here: kernels are compared), a higher clock under the power limit (cycles
are compared), another choice of kernel, and the tail. An N:M kernel launches the CTAs of the dense one, each with half of its
instructions, so that its tail is no shorter than its share; but tile-wise tiles that were dropped may leave one wave of CTAs where
there were two. In no committed trace does any of it outweigh what is lost.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nmsim.arch.load import load_gpu
from nmsim.run.choice import RunOptions
from nmsim.run.step import Simulator
from nmsim.run.trace import simulate_trace
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.workload.gemm import PHASES
from nmsim.workload.legality import usable_structure
from nmsim.workload.rescale import rescale_batch
from nmsim.workload.store import read_trace

ROOT = Path(__file__).parents[2]
NAMES = sorted(folder.name.removesuffix(".nmtrace") for folder in (ROOT / "workloads").glob("*.nmtrace"))
BATCH = {"digits_resnet": 256, "digits_vit": 256, "gpt_w256": 64, "gpt_w512": 8}
"""Samples, so that the machine has something to do; a full-size step keeps its one."""
QUICK = (
    "digits_resnet_tile_wise_2to4",
    "digits_vit_sr_ste_2to8",
    "gpt_w256_bdwp_2to4",
    "gpt_w256_fst_2to4",
    "gpt_w256_tile_wise_2to4",
    "gpt_w256_transposable_2to4",
    "llama_block_fst_2to4",
)
"""One of each recipe, and a full-size step; the others when slow tests are asked for."""
SPARSE = {"dense": 0, "sr-ste": 1, "transposable": 2, "bdwp": 2, "fst": 3, "tile-wise": 3}
"""Recipe -> products of three that the budget of the literature counts as sparse."""


@pytest.fixture(scope="module")
def simulator(ampere: Path) -> Simulator:
    """One for all traces: those of a task share their dense kernels."""
    return Simulator(load_gpu(ampere), RunOptions())


def ideal_speedups(trace):
    """Phase -> all MACs over those left, by the recorded masks and tiles alone."""
    whole, left = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0)
    tiled = {gemm.module for gemm in trace.gemms if gemm.b.structure == "tile_wise"}
    for gemm in trace.gemms:
        usable = [found for operand in (gemm.a, gemm.b) if (found := usable_structure(gemm, operand, trace)).ok and found.pattern]
        density = min((float(found.pattern.density) for found in usable if found.pattern is not None), default=1.0)
        if gemm.module in tiled:
            plan = trace.tile_wise[trace.own_density][gemm.module]
            density = kept_macs(plan.columns, plan.rows, plan.tile_width) / (plan.columns.size * plan.rows.shape[1])
        whole[gemm.phase] += gemm.macs * gemm.repeat
        left[gemm.phase] += gemm.macs * gemm.repeat * density
    return {phase: whole[phase] / left[phase] for phase in PHASES}


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_a_step_stays_within_the_ideal_mac_budget_in_every_phase(name, simulator):
    trace = read_trace(ROOT / "workloads" / f"{name}.nmtrace")
    batch = next((samples for task, samples in BATCH.items() if name.startswith(task)), trace.batch)
    ideal = ideal_speedups(trace)
    is_dense = name.endswith(("-dense", "-dense_tail"))
    assert sum(ratio > 1.05 for ratio in ideal.values()) == (0 if is_dense else SPARSE[trace.provenance.recipe])
    result = simulate_trace(simulator.spec, rescale_batch(trace, batch), schemes=("dense",), simulator=simulator)
    cycles: dict[tuple[str, str], float] = dict.fromkeys(((scheme, phase) for scheme in ("traced", "dense") for phase in PHASES), 0.0)
    for row in result.rows:
        if row.kind == "gemm":
            cycles[row.scheme, row.phase] += row.cycles
    for phase in PHASES:
        assert cycles["dense", phase] / cycles["traced", phase] <= ideal[phase], phase
