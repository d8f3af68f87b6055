"""No formula in event clothing: each mechanism moves the time of a named GEMM when it is switched off.

A row is a mechanism, the GEMM whose kernel is held fixed while the machine changes, what switches it off, and the least
share of the cycles that must go. Where the shipped machine hides a mechanism behind another, `on` says what is changed
on both sides to bring it out.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from nmsim.api import simulate_gemm
from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.mapping.candidates import Candidate, build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.choice import RunOptions, best_kernel, run_at
from nmsim.run.kernel import KernelRun
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern

OPTIONS = RunOptions()
FREE = 1_000_000
"""A rate that is never the limit."""


class NamedGemm(NamedTuple):
    m: int
    n: int
    k: int
    pattern: str | None = None


TINY = NamedGemm(64, 64, 64)
"""One CTA: nothing hides a latency."""
TINY_SPARSE = NamedGemm(64, 64, 64, "2:4")
SMALL = NamedGemm(512, 512, 512)
SKINNY = NamedGemm(1, 8192, 8192)
"""A matrix times a vector: bound by DRAM."""
OUTER = NamedGemm(8192, 8192, 64)
"""A product that mostly writes: 128 MiB of output."""
NARROW_OUTER = NamedGemm(4096, 4096, 64)
"""The same with an output that fits the L2: bound by its bandwidth where DRAM takes the writes at once."""
DEEP_SQUARE = NamedGemm(4096, 4096, 1024)
"""Its wave does not fit a small L2."""
SHORT = NamedGemm(2048, 2048, 32)
"""One k-tile: little but the epilogue."""
DEEP = NamedGemm(128, 128, 4096)
MIDDLE_SPARSE = NamedGemm(2048, 2048, 1024, "2:4")


class Row(NamedTuple):
    mechanism: str
    gemm: NamedGemm
    off: Sequence[str]
    least: float
    on: Sequence[str] = ()


FREE_DRAM = (f"dram.bandwidth_gb_per_s={FREE}",)
NO_ROW_TIMES = ("dram.precharge_ns=0.001", "dram.row_to_column_ns=0.001", "dram.row_active_ns=0.001")

MACHINE = [
    Row("DRAM bus", OUTER, [f"dram.bandwidth_gb_per_s={FREE}"], 0.10),
    Row("DRAM refresh", SKINNY, ["dram.refresh_ns=0"], 0.03),
    Row("DRAM turnaround", OUTER, ["dram.turnaround_ns=0"], 0.02),
    Row("DRAM row activation", TINY, NO_ROW_TIMES, 0.005, on=["dram.refresh_ns=0"]),
    Row("DRAM column access", TINY, ["dram.cas_ns=0.001"], 0.005, on=["dram.refresh_ns=0"]),
    Row("DRAM bank conflicts", SKINNY, NO_ROW_TIMES, 0.25, on=["dram.banks=2"]),
    Row("DRAM controller path", TINY, ["dram.controller_ns=0"], 0.05),
    Row("L2 capacity", DEEP_SQUARE, ["l2.capacity_bytes=1000000000000"], 0.05, on=["l2.capacity_bytes=4194304"]),
    Row("L2 bandwidth", NARROW_OUTER, [f"l2.bytes_per_cycle_per_slice={FREE}"], 0.08, on=[*FREE_DRAM, "l2.bytes_per_cycle_per_slice=56"]),
    Row("L2 far partition", TINY, ["l2.far_latency_cycles=211"], 0.02),
    Row("L2 copies of far blocks", DEEP_SQUARE, ["l2.copies_far_blocks=false"], 0.10, on=["l2.capacity_bytes=2097152"]),
    Row("SM read port", MIDDLE_SPARSE, [f"noc.sm_port_bytes_per_cycle={FREE}"], 0.10, on=["noc.sm_port_bytes_per_cycle=32"]),
    Row("SM write port", SHORT, [f"noc.sm_write_bytes_per_cycle={FREE}"], 0.06, on=[*FREE_DRAM, "dram.refresh_ns=0"]),
    Row("CTA launch", TINY, ["sm.cta_launch_cycles=0"], 0.03),
    Row("shared-memory bandwidth", SMALL, ["shared_memory.bank_bytes=4096"], 0.08),
    Row("shared-memory latency", SMALL, ["shared_memory.latency_cycles=0"], 0.02, on=["shared_memory.latency_cycles=100"]),
    Row(
        "metadata decode rate",
        MIDDLE_SPARSE,
        [f"tensor_core.decoder.codes_per_cycle={FREE}"],
        0.20,
        on=["tensor_core.decoder.codes_per_cycle=16"],
    ),
    Row(
        "metadata decode latency", TINY_SPARSE, ["tensor_core.decoder.latency_cycles=0"], 0.01, on=["tensor_core.decoder.latency_cycles=40"]
    ),
    Row("selector width", MIDDLE_SPARSE, ["tensor_core.decoder.selector_width=4"], 0.20, on=["tensor_core.decoder.selector_width=1"]),
    Row(
        "register-file port",
        MIDDLE_SPARSE,
        [f"tensor_core.register_read_bytes_per_cycle={FREE}"],
        0.30,
        on=["tensor_core.register_read_bytes_per_cycle=48"],
    ),
]


def problem_of(gemm: NamedGemm) -> Problem:
    whole = what_if_gemm(gemm.m, gemm.n, gemm.k, 1, "fp16", "fp16")
    return lower_dense(whole) if gemm.pattern is None else lower_nm(whole, "b", NMPattern.parse(gemm.pattern))


def run(spec: GpuSpec, candidate: Candidate) -> KernelRun:
    return run_at(spec, build_plan(spec, candidate), spec.clock.boost_mhz, OPTIONS)


@pytest.mark.parametrize("row", MACHINE, ids=lambda row: row.mechanism)
def test_a_mechanism_of_the_machine_costs_a_named_gemm_time(row: Row, ampere: Path) -> None:
    before, after = load_gpu(ampere, row.on), load_gpu(ampere, [*row.on, *row.off])
    kernel = best_kernel(before, problem_of(row.gemm), OPTIONS)
    free = run_at(after, kernel.plan, after.clock.boost_mhz, OPTIONS)
    assert free.cycles <= (1 - row.least) * kernel.cycles


def with_tile(spec: GpuSpec, stages: int, **kernels: object) -> GpuSpec:
    """A library of one 128x128 tile."""
    tile = TileSpec(cta=(128, 128, 64), warp=(64, 64), stages=stages)
    return spec.model_copy(update={"kernels": spec.kernels.model_copy(update={"tiles": (tile,), **kernels})})


def first(spec: GpuSpec, gemm: NamedGemm) -> Candidate:
    return replace(rank(spec, problem_of(gemm))[0], split_k=1)


def test_the_raster_width_moves_a_gemm_whose_wave_does_not_fit_the_l2(ampere: Path) -> None:
    """4096 x 4096 x 512 with 4 MiB of L2: in bands of 8 tile columns a wave shares its strips of A and B."""
    small = load_gpu(ampere, ["l2.capacity_bytes=4194304"])
    cycles = {}
    for width in (1, 8):
        machine = with_tile(small, 5, raster_width=width)
        cycles[width] = run(machine, first(machine, NamedGemm(4096, 4096, 512))).cycles
    assert cycles[8] < 0.8 * cycles[1]


def test_more_stages_hide_more_of_the_memory(spec: GpuSpec) -> None:
    cycles = {}
    for stages in (2, 3):
        machine = with_tile(spec, stages)
        cycles[stages] = run(machine, replace(first(machine, NamedGemm(1024, 1024, 1024)), occupancy=1)).cycles
    assert cycles[3] < 0.97 * cycles[2]


def test_a_second_resident_cta_hides_the_epilogue_of_the_first(spec: GpuSpec) -> None:
    dram = spec.dram.model_copy(update={"bandwidth_gb_per_s": float(FREE)})  # else the writes themselves are the limit
    spec = spec.model_copy(update={"dram": dram})
    candidate = first(with_tile(spec, 4), NARROW_OUTER)
    assert run(spec, replace(candidate, occupancy=2)).cycles < 0.85 * run(spec, replace(candidate, occupancy=1)).cycles


def test_split_k_spreads_a_deep_reduction_over_idle_sms(spec: GpuSpec) -> None:
    """256 x 256 x 8192 has 4 tiles of 128 x 128: split 4 ways it uses 16 SMs instead of 4, less the serial reduction."""
    candidate = first(with_tile(spec, 5), NamedGemm(256, 256, 8192))
    assert run(spec, replace(candidate, split_k=4)).cycles < 0.5 * run(spec, candidate).cycles


def test_max_split_k_limits_what_is_chosen(ampere: Path) -> None:
    whole, limited = (
        best_kernel(load_gpu(ampere, sets), problem_of(NamedGemm(256, 256, 8192)), OPTIONS) for sets in ([], ["kernels.max_split_k=1"])
    )
    assert whole.plan.split_k > 1
    assert limited.plan.split_k == 1
    assert whole.cycles < 0.6 * limited.cycles


def test_an_l2_that_already_holds_the_operands_is_faster(spec: GpuSpec) -> None:
    plan = best_kernel(spec, problem_of(SMALL), OPTIONS).plan
    cold, warm = (run_at(spec, plan, spec.clock.boost_mhz, RunOptions(l2=state)) for state in ("cold", "warm"))
    assert warm.cycles < 0.97 * cold.cycles
    assert warm.counters.dram_read_bytes == 0 < cold.counters.dram_read_bytes


Sets = Sequence[str]


@pytest.mark.parametrize(
    ("mechanism", "gemm", "machine", "off", "least"),
    [
        ("launch", TINY, "ampere.yaml", ["launch.kernel_us=0"], 0.5),
        ("sparse launch", TINY_SPARSE, "ampere.yaml", ["launch.nm_extra_us=0"], 0.2),
        ("power cap", NamedGemm(4096, 4096, 4096, "2:4"), "ampere_pcie.yaml", [f"power.board_limit_w={FREE}"], 0.02),
        ("sustained clock", SMALL, "ampere_pcie.yaml", ["clock.sustained_mhz=1410"], 0.05),
    ],
)
def test_launches_clock_and_power_cap_cost_a_named_gemm_time(
    mechanism: str, gemm: NamedGemm, machine: str, off: Sets, least: float, ampere: Path
) -> None:
    before, after = (
        simulate_gemm(ampere.with_name(machine), m=gemm.m, n=gemm.n, k=gemm.k, pattern=gemm.pattern, overrides=sets, engine="compiled")
        for sets in ((), off)
    )
    assert after.time_us <= (1 - least) * before.time_us, mechanism


STALLS: dict[str, tuple[NamedGemm, Sequence[str]]] = {
    "metadata": (MIDDLE_SPARSE, ["tensor_core.decoder.codes_per_cycle=16"]),
    "shared_memory": (SMALL, ()),
    "selector": (MIDDLE_SPARSE, ["tensor_core.decoder.selector_width=2"]),
    "register_file": (MIDDLE_SPARSE, ["tensor_core.register_read_bytes_per_cycle=64"]),
    "math_latency": (SMALL, ()),
    "noc_queue": (DEEP, ["noc.sm_port_bytes_per_cycle=16"]),
    "l2_queue": (NARROW_OUTER, ()),
    "l2_latency": (NARROW_OUTER, ()),
    "dram_queue": (OUTER, ()),
    "dram_row": (SKINNY, ()),
    "dram_bus": (SKINNY, ()),
    "cta_launch": (NARROW_OUTER, ()),
    "fill_drain": (NARROW_OUTER, ()),
    "split_k_wait": (NamedGemm(256, 256, 8192), ()),
    "epilogue": (SHORT, ()),
    "imbalance": (TINY, ()),
}
"""A GEMM on which at least one part in a thousand of the cycles goes to the stall, and what it takes to bring it out."""


@pytest.mark.parametrize("name", STALLS)
def test_every_stall_is_reached_by_a_named_gemm(name: str, ampere: Path) -> None:
    gemm, sets = STALLS[name]
    kernel = best_kernel(load_gpu(ampere, sets), problem_of(gemm), OPTIONS)
    assert kernel.stall_cycles[name] >= 0.001 * kernel.cycles


def test_the_list_of_stalls_is_complete() -> None:
    assert set(STALLS) == set(STALL_NAMES)
