"""One what-if GEMM: where it must land, what its figures must add up to, and how bad input is refused."""

import math
from typing import Any

import pytest

from nmsim.api import simulate_gemm
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.run.single import MAX_DIMENSION, GemmResult

PEAK_FP16_TFLOPS = 312.0
"""A100 datasheet, dense FP16 with FP32 accumulation."""


def run(spec: GpuSpec, m: int, n: int, k: int, pattern: str | None = None, **options: Any) -> GemmResult:
    return simulate_gemm(spec, m=m, n=n, k=k, pattern=pattern, **options)


def with_limit(spec: GpuSpec, watts: float) -> GpuSpec:
    return spec.model_copy(update={"power": spec.power.model_copy(update={"board_limit_w": watts})})


def test_a_large_dense_gemm_lands_below_the_datasheet_peak_but_not_far(spec: GpuSpec) -> None:
    large = run(spec, 8192, 8192, 8192)
    assert 0.6 * PEAK_FP16_TFLOPS < large.dense_equivalent_tflops < PEAK_FP16_TFLOPS
    assert large.bound == "tensor"


def test_two_of_four_is_faster_than_dense_but_less_than_twice(spec: GpuSpec) -> None:
    sparse = run(spec, 8192, 8192, 8192, "2:4")
    assert 1.0 < sparse.speedup_vs_dense < 2.0
    assert sparse.native_pattern == "2:4"
    assert sparse.dense_equivalent_tflops == pytest.approx(2 * sparse.executed_tflops)


def test_a_tiny_gemm_gains_nothing_and_says_so(spec: GpuSpec) -> None:
    tiny = run(spec, 64, 64, 64, "2:4")
    assert tiny.speedup_vs_dense <= 1.0
    assert any(note.startswith("2:4 is slower here") for note in tiny.notes)


@pytest.mark.parametrize("pattern", [None, "2:4"])
@pytest.mark.parametrize(("shape", "batch"), [((130, 70, 200), 1), ((64, 64, 1024), 3)])
def test_both_engines_give_the_same_result(shape: tuple[int, int, int], batch: int, pattern: str | None, spec: GpuSpec) -> None:
    compiled, simpy = (run(spec, *shape, pattern, l=batch, engine=engine).to_json() for engine in ("compiled", "simpy"))
    assert (compiled.pop("engine"), simpy.pop("engine")) == ("compiled", "simpy")
    assert compiled == simpy


SHAPES = [(64, 64, 64), (100, 3000, 72), (2048, 2048, 2048), (16, 4096, 4096), (4096, 4096, 128)]


@pytest.mark.parametrize("pattern", [None, "2:4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_figures_of_a_result_add_up(shape: tuple[int, int, int], pattern: str | None, spec: GpuSpec) -> None:
    result = run(spec, *shape, pattern)
    assert result.busy_cycles + sum(result.stall_cycles.values()) == pytest.approx(result.cycles)
    assert min(result.stall_cycles.values()) >= 0
    assert result.time_us == pytest.approx(result.cycles / result.clock_mhz + result.launch_us)
    assert result.launch_us == spec.launch.kernel_us + (spec.launch.nm_extra_us if pattern else 0)
    assert result.dense_equivalent_tflops == pytest.approx(2 * math.prod(shape) / result.time_us / 1e6)
    assert 0 < result.compute_cycles <= result.cycles
    assert result.energy_j == pytest.approx(sum(result.energy_by_unit_j.values()))
    assert result.energy_by_unit_j["static"] == pytest.approx(spec.power.static_w * result.time_us * 1e-6)
    assert result.power_w == pytest.approx(result.energy_j / result.time_us * 1e6)
    peak = 2 * spec.peak_macs_per_cycle("fp16") * result.clock_mhz / 1e6
    assert result.executed_tflops < peak
    m, n, k = shape
    assert result.bytes["l2"] >= (m * k + n * k * (0.5 if pattern else 1) + m * n) * 2  # each operand once at least
    assert spec.clock.min_mhz <= result.clock_mhz <= spec.clock.boost_mhz


def test_a_dense_run_is_its_own_reference(spec: GpuSpec) -> None:
    assert run(spec, 512, 512, 512).speedup_vs_dense == pytest.approx(1, rel=1e-12)
    assert run(spec, 512, 512, 512, "dense") == run(spec, 512, 512, 512)


def test_a_pattern_that_nothing_native_holds_is_the_dense_run_with_a_note(spec: GpuSpec) -> None:
    refused = run(spec, 512, 512, 512, "3:4")
    assert refused.native_pattern == "dense"
    assert refused.speedup_vs_dense == pytest.approx(1, rel=1e-12)
    assert "none of which contains 3:4" in refused.notes[0]


def test_a_pattern_that_runs_as_another_costs_what_the_other_does(spec: GpuSpec) -> None:
    one_four, two_four = run(spec, 512, 512, 512, "1:4"), run(spec, 512, 512, 512, "2:4")
    assert one_four.cycles == two_four.cycles
    assert "1:4 runs as 2:4" in one_four.notes[0]


@pytest.mark.parametrize("pattern", [None, "2:4"])
@pytest.mark.parametrize("shape", [(2048, 2048, 2048), (4096, 4096, 128), (8192, 8192, 2048)])
@pytest.mark.parametrize("limit_w", [400.0, 250.0])
def test_power_over_more_than_a_wave_never_passes_the_boards_limit(
    shape: tuple[int, int, int], limit_w: float, pattern: str | None, spec: GpuSpec
) -> None:
    result = run(with_limit(spec, limit_w), *shape, pattern)
    assert result.waves >= 0.5  # every SM has a CTA
    assert result.power_w <= limit_w
    assert result.clock_mhz <= run(with_limit(spec, 1e6), *shape, pattern).clock_mhz == spec.clock.boost_mhz


def test_a_lower_limit_lowers_the_clock_and_lengthens_a_compute_bound_gemm(spec: GpuSpec) -> None:
    results = [run(with_limit(spec, watts), 4096, 4096, 1024) for watts in (1000.0, 300.0, 200.0)]
    clocks, times = [result.clock_mhz for result in results], [result.time_us for result in results]
    assert clocks == sorted(clocks, reverse=True)
    assert clocks[0] > clocks[-1]
    assert times == sorted(times)


def test_memory_does_not_slow_down_with_the_core(spec: GpuSpec) -> None:
    """Halving the core clock takes fewer core cycles of a GEMM that waits for DRAM, and hardly changes its microseconds."""
    half = spec.model_copy(update={"clock": spec.clock.model_copy(update={"boost_mhz": 705, "min_mhz": 210})})
    fast, slow = run(spec, 1, 8192, 8192), run(half, 1, 8192, 8192)
    assert slow.clock_mhz == 705
    assert slow.cycles < 0.75 * fast.cycles
    bound_by_tensor = run(half, 2048, 2048, 2048).cycles / run(spec, 2048, 2048, 2048).cycles
    assert 0.9 < bound_by_tensor <= 1.01


def test_a_batch_of_products_costs_less_than_its_parts_one_after_another(spec: GpuSpec) -> None:
    one, eight = run(spec, 256, 256, 256), run(spec, 256, 256, 256, l=8)
    assert one.cycles < eight.cycles < 8 * one.cycles
    assert eight.dense_equivalent_tflops == pytest.approx(8 * 2 * 256**3 / eight.time_us / 1e6)


def test_either_operand_may_be_the_compressed_one(spec: GpuSpec) -> None:
    a, b = (run(spec, 2048, 1024, 1024, "2:4", sparse_operand=side) for side in ("a", "b"))
    assert a.native_pattern == b.native_pattern == "2:4"
    assert a.cycles == pytest.approx(b.cycles, rel=0.25)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"m": 0}, "--m: must be between 1 and"),
        ({"k": MAX_DIMENSION + 1}, "--k: must be between 1 and"),
        ({"l": -1}, "--l: must be between 1 and"),
        ({"m": 1_000_000, "k": MAX_DIMENSION}, "the machine has 80 GiB of DRAM"),
        ({"pattern": "4:2"}, "an N:M pattern keeps 1 <= N <= M"),
        ({"pattern": "half"}, "not an N:M pattern"),
        ({"dtype": "fp99"}, "--dtype: .* has no such element type, got 'fp99'; use one of bf16"),
        ({"dtype": "fp32"}, "has no dense matrix instruction for fp32"),
        ({"out_dtype": "text"}, "--out-dtype"),
        ({"sparse_operand": "w"}, "--sparse-operand"),
        ({"l2": "hot"}, "--l2: no such L2 state here, got 'hot'; use one of cold, warm"),
        ({"engine": "fast"}, "--engine: no such engine"),
        ({"overrides": ["sm.count=1"]}, "overrides need the machine's file"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options: dict[str, Any], words: str, spec: GpuSpec) -> None:
    with pytest.raises(InputError, match=words) as caught:
        simulate_gemm(spec, **{"m": 64, "n": 64, "k": 64, **options})
    assert "\n" not in str(caught.value)
