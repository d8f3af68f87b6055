"""One matrix instruction on the SM's own units: latency at ILP 1, peak rate with enough warps, nothing beyond the peak."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.api import microbench
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.run.microbench import MmaTiming
from nmsim.validation.tabular import DATA

DENSE, SPARSE = (16, 8, 16), (16, 8, 32)


def test_a_dependent_chain_of_one_warp_shows_the_latency(spec: GpuSpec) -> None:
    for mma in spec.tensor_core.mma:
        timing = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, acc=mma.accumulator, warps=1, ilp=1)
        assert timing.latency_cycles == timing.iteration_cycles == mma.latency_cycles


@pytest.mark.parametrize(("shape", "pattern", "peak"), [(DENSE, "dense", 1024), (SPARSE, "2:4", 2048)])
def test_enough_warps_reach_the_peak_of_the_sm(shape: tuple[int, int, int], pattern: str, peak: int, spec: GpuSpec) -> None:
    timing = microbench(spec, shape=shape, pattern=pattern, warps=8, ilp=4)
    assert timing.throughput_fma_per_cycle_per_sm == pytest.approx(peak, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), warps=st.integers(1, 16), ilp=st.integers(1, 6))
def test_no_instruction_passes_its_peak_and_more_work_in_flight_never_slows_the_rate(
    data: st.DataObject, warps: int, ilp: int, spec: GpuSpec
) -> None:
    mma = data.draw(st.sampled_from(spec.wide_mma))
    peak = mma.shape[0] * mma.shape[1] * mma.shape[2] / mma.issue_interval_cycles * spec.tensor_core.per_sm
    timing = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, warps=warps, ilp=ilp)
    more = microbench(spec, shape=mma.shape, dtype=mma.dtype, pattern=mma.pattern, warps=warps, ilp=ilp + 1)
    assert timing.throughput_fma_per_cycle_per_sm <= 1.01 * peak
    assert more.throughput_fma_per_cycle_per_sm >= 0.99 * timing.throughput_fma_per_cycle_per_sm
    assert timing.latency_cycles == mma.latency_cycles  # whatever the warps and the ILP


def test_one_warp_a_scheduler_pays_for_its_loop_and_two_hide_it(spec: GpuSpec) -> None:
    """8 + 25/32 cycles an MMA and 13/32 a pass, on one, two and four tensor cores; then 8."""
    rates = [microbench(spec, shape=DENSE, warps=warps, ilp=8).throughput_fma_per_cycle_per_sm for warps in (1, 2, 4, 8)]
    alone = 8 * 2048 / (8 * (8 + 25 / 32) + 13 / 32)
    assert rates == pytest.approx([alone, 2 * alone, 4 * alone, 1024], rel=0.001)


@dataclass(frozen=True)
class Row:
    """A row of tables 3 and 6 of Sun et al., arXiv:2206.02874."""

    shape: tuple[int, int, int]
    dtype: str
    acc: str
    pattern: str
    latency: float
    throughput: tuple[tuple[int, int, float], ...]
    """(warps, ILP, FMA per cycle and SM) where it is given."""


def published() -> Iterator[Row]:
    """Columns a are at 4 warps, b at 8. Sparse rows give no ILP: 3 at 4 warps and 2 at 8, where the rates have converged."""
    with (DATA / "tensorcore_instr_a100.csv").open() as file:
        for row in csv.DictReader(file):
            dtype, sparse = row["ab_dtype"].lower(), row["instr"].startswith("mma.sp")
            if dtype == "bin":
                continue  # no element type of a GEMM
            ilp = [int(row[name] or default) for name, default in (("ilp_a(derived from latency x throughput)", 3), ("ilp_b(derived)", 2))]
            m, n, k = map(int, re.findall(r"\d+", row["ptx_shape"]))
            rates = [row["throughput_a_FMA_per_clk_SM"], row["throughput_b_FMA_per_clk_SM"]]
            yield Row(
                shape=(m, n, k),
                dtype=dtype,
                acc=row["cd_dtype"].lower(),
                pattern=("1:2" if dtype == "tf32" else "2:4") if sparse else "dense",
                latency=float(row["completion_latency_cycles"]),
                throughput=tuple((warps, n, float(rate)) for warps, n, rate in zip((4, 8), ilp, rates, strict=True) if rate),
            )


PUBLISHED = list(published())


def measure(spec: GpuSpec, row: Row, warps: int, ilp: int) -> MmaTiming:
    return microbench(spec, shape=row.shape, dtype=row.dtype, pattern=row.pattern, acc=row.acc, warps=warps, ilp=ilp)


def test_all_rows_are_there() -> None:
    assert len(PUBLISHED) == 15
    assert sum(len(row.throughput) for row in PUBLISHED) == 16


@pytest.mark.parametrize("row", PUBLISHED, ids=str)
def test_completion_latencies_are_the_published_ones_to_the_cycle(row: Row, spec: GpuSpec) -> None:
    """Half a cycle: the model counts whole ones."""
    assert measure(spec, row, 1, 1).latency_cycles == pytest.approx(row.latency, abs=0.5)


@pytest.mark.parametrize("row", PUBLISHED, ids=str)
def test_throughput_is_the_published_one(row: Row, spec: GpuSpec) -> None:
    """3 % dense, 6 % sparse: the published ones have converged to 95-98 % of the peak for reasons left out here.

    Short-k sparse instructions at 4 warps are left open: 8.0 cycles an instruction into FP32 and 6.6 into FP16 are not explained.
    """
    for warps, ilp, rate in row.throughput:
        short = row.pattern != "dense" and row.shape[2] == 16
        bar = 0.03 if row.pattern == "dense" else 0.12 if short and warps == 4 else 0.06
        assert measure(spec, row, warps, ilp).throughput_fma_per_cycle_per_sm == pytest.approx(rate, rel=bar)


@settings(max_examples=30, deadline=None)
@given(row=st.sampled_from(PUBLISHED), warps=st.integers(1, 12), ilp=st.integers(1, 6))
def test_throughput_times_latency_is_what_is_in_flight(row: Row, warps: int, ilp: int, spec: GpuSpec) -> None:
    """Little's law, which the published rows obey within 2 %."""
    timing = measure(spec, row, warps, ilp)
    in_flight = warps * ilp * row.shape[0] * row.shape[1] * row.shape[2]
    assert timing.throughput_fma_per_cycle_per_sm * timing.iteration_cycles == pytest.approx(in_flight, rel=1e-9)
    assert timing.iteration_cycles >= timing.latency_cycles * 0.999


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (16, 8, 99)}, "has no such instruction, got 'm16n8k99 fp16 dense'; it has m16n8k16 fp16 dense"),
        ({"shape": DENSE, "acc": "int32"}, "has no such instruction, got 'm16n8k16 fp16 dense into int32'"),
        ({"shape": DENSE, "dtype": "fp8"}, "has no such instruction"),
        ({"shape": DENSE, "warps": 0}, "an SM runs 1 to 64 warps"),
        ({"shape": DENSE, "ilp": 65}, "each with 1 to 64 chains"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(options: dict[str, Any], words: str, spec: GpuSpec) -> None:
    with pytest.raises(InputError, match=words):
        microbench(spec, **options)
