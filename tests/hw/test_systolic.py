"""A systolic array with memory: against a second wiring, against its rules, against what bytes and bandwidth allow."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nmsim.arch.systolic import Dataflow, Overlap, SystolicSpec
from nmsim.errors import InputError, PhysicsError
from nmsim.hw.memory_queue import MemoryQueue
from nmsim.hw.systolic import run_array
from nmsim.mapping.systolic import MAX_SEGMENTS, lower_systolic
from nmsim.mapping.systolic_traffic import PARTIAL_BITS
from nmsim.rules.stalls import Stall
from nmsim.rules.systolic import compute_cycles, input_cycles
from nmsim.run.single import what_if_gemm
from nmsim.run.systolic import SystolicRun, array_timing, run_systolic
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import RATE_BITS, ticks_to_cycles
from nmsim.workload.gemm import Gemm
from tests.hw.simpy_systolic import simpy_ticks


def machine(
    rows: int = 8,
    columns: int = 8,
    dataflow: str = "ws",
    overlap: str = "full",
    buffers: int | tuple[int, int, int] = 1 << 16,
    **other: Any,
) -> SystolicSpec:
    sizes = (buffers,) * 3 if isinstance(buffers, int) else buffers
    return SystolicSpec.model_validate(
        {
            "schema": "nmsim-arch/1",
            "name": "small",
            "kind": "systolic",
            "clock_mhz": 1000,
            "array": {
                "rows": rows,
                "columns": columns,
                "dataflow": dataflow,
                "overlap": overlap,
                "nm": {"enabled": True, "patterns": "any", "input_width": other.get("input_width", "any")},
            },
            "buffers": dict(zip(("input_bytes", "filter_bytes", "output_bytes"), sizes, strict=True)),
            "dram": {"bandwidth_gb_per_s": other.get("gb_per_s", 16.0), "latency_ns": other.get("latency_ns", 50.0)},
            "energy": {"mac_pj": {"fp16": 1.0, "int4": 0.2}, "metadata_code_pj": 0.1, "buffer_pj_per_byte": 1.0, "dram_pj_per_byte": 10.0},
            "power": {"static_w": 1.0},
        }
    )


def gemm(m: int, n: int, k: int, batch: int = 1, dtype: str = "fp16") -> Gemm:
    return what_if_gemm(m, n, k, batch, dtype, "fp16")


patterns = st.sampled_from([None, "1:2", "2:4", "1:4", "3:5", "4:8"]).map(lambda text: None if text is None else NMPattern.parse(text))
sides, sizes = st.integers(1, 6), st.integers(1, 40)


@st.composite
def cases(draw: st.DrawFn) -> tuple[SystolicSpec, Gemm, NMPattern | None]:
    """A small machine, cramped or roomy, and a GEMM that fits it."""
    spec = machine(
        draw(sides), draw(sides), draw(st.sampled_from(get_args(Dataflow))), draw(st.sampled_from(get_args(Overlap))),
        (draw(st.sampled_from([512, 1024, 8192])), draw(st.sampled_from([512, 1024, 8192])), draw(st.sampled_from([256, 1024, 8192]))),
        gb_per_s=draw(st.sampled_from([0.5, 4.0, 50.0, 1e4])), latency_ns=draw(st.sampled_from([0.0, 7.0, 120.0])),
        input_width=draw(st.sampled_from(["any", 1, 2])),
    )  # fmt: skip
    return (
        spec,
        gemm(draw(sizes), draw(sizes), draw(sizes), draw(st.integers(1, 2)), draw(st.sampled_from(["fp16", "int4"]))),
        draw(patterns),
    )


@settings(max_examples=300, deadline=None)
@given(case=cases(), ticks_per_byte=st.sampled_from([1, 16, 100, 256, 700]))
def test_a_second_wiring_agrees_to_the_tick(case: tuple[SystolicSpec, Gemm, NMPattern | None], ticks_per_byte: int) -> None:
    spec, product, pattern = case
    folds = lower_systolic(spec, product, pattern).folds
    timing = replace(array_timing(spec), memory_rate=ticks_per_byte << RATE_BITS)
    assert run_array(timing, folds).ticks == simpy_ticks(timing, folds, ticks_per_byte)


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_operands_at_hand_take_the_cycles_of_the_rules(case: tuple[SystolicSpec, Gemm, NMPattern | None]) -> None:
    spec, product, pattern = case
    a, k = spec.array, product.k if pattern is None else pattern.compressed_k(product.k)
    entering = (1, 1) if pattern is None else input_cycles(pattern.n, pattern.m, a.nm.port_elements)
    expected = compute_cycles(a.dataflow, a.overlap, product.m, product.n, k, a.rows, a.columns, product.l, entering)
    assert run_systolic(spec, product, pattern, ideal_memory=True).cycles == expected
    fast = spec.model_copy(update={"dram": spec.dram.model_copy(update={"bandwidth_gb_per_s": 1e12, "latency_ns": 0.0})})
    assert run_systolic(fast, product, pattern).cycles == expected


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_busy_and_stalls_add_up_and_no_bound_is_beaten(case: tuple[SystolicSpec, Gemm, NMPattern | None]) -> None:
    spec, product, pattern = case
    run = run_systolic(spec, product, pattern)
    assert run.busy_cycles + sum(run.stall_cycles.values()) == pytest.approx(run.cycles, rel=1e-12)
    assert min(run.stall_cycles.values()) >= -1e-9
    assert run.cycles >= run.busy_cycles == run.counters.executed_macs / (spec.array.rows * spec.array.columns)
    moved = run.counters.dram_read_bytes + run.counters.dram_write_bytes
    assert run.cycles >= moved / spec.dram.bandwidth_gb_per_s * (1 - 1e-4) - 1
    named = {"shared_memory", "dram_queue", "dram_row", "dram_bus", "fill_drain", "epilogue", "imbalance"}
    assert {name for name, cycles in run.stall_cycles.items() if cycles} <= named


def fetched_by_hand(spec: SystolicSpec, m: int, n: int, k: int) -> tuple[int, int]:
    """(bytes read, bytes written) of a dense FP16 GEMM: what each fold needs, element by element, less what is on chip."""
    rows, columns, flow = spec.array.rows, spec.array.columns, spec.array.dataflow
    buffers, read, written, seen = spec.buffers, 0, 0, set()
    outer = {"ws": n, "is": m, "os": m}[flow]
    for x in range(0, outer, rows if flow == "os" else columns):
        xs = range(x, min(outer, x + (rows if flow == "os" else columns)))
        inner = n if flow == "os" else k
        for y in range(0, inner, columns if flow == "os" else rows):
            ys = range(y, min(inner, y + (columns if flow == "os" else rows)))
            if flow == "os":
                a, b = {("a", i, p) for i in xs for p in range(k)}, {("b", p, j) for j in ys for p in range(k)}
                keep_a, keep_b = len(xs) * k * 2 <= buffers.input_bytes // 2, n * k * 2 <= buffers.filter_bytes
                spilled = 0
                written += len(xs) * len(ys) * 2
            else:
                a = {("a", i, p) for i in (range(m) if flow == "ws" else xs) for p in ys}
                b = {("b", p, j) for j in (xs if flow == "ws" else range(n)) for p in ys}
                keep_a, keep_b = m * k * 2 <= buffers.input_bytes, n * k * 2 <= buffers.filter_bytes
                outputs = len(xs) * (m if flow == "ws" else n)
                spilled = outputs * 4 if outputs * 4 > buffers.output_bytes // 2 else 0
                read += spilled * (y > 0)
                written += outputs * 2 if y + rows >= k else spilled
            read += 2 * (len(a - seen) + len(b - seen))
            seen |= (a if keep_a else set()) | (b if keep_b else set())
    return read, written


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_a_dense_gemm_moves_the_bytes_counted_by_hand(case: tuple[SystolicSpec, Gemm, NMPattern | None]) -> None:
    spec, product, _ = case
    counters = run_systolic(spec, gemm(product.m, product.n, product.k)).counters
    assert (counters.dram_read_bytes, counters.dram_write_bytes) == fetched_by_hand(spec, product.m, product.n, product.k)


def cycles(spec: SystolicSpec, m: int, n: int, k: int, pattern: str | None = None) -> float:
    return run_systolic(spec, gemm(m, n, k), None if pattern is None else NMPattern.parse(pattern)).cycles


@pytest.mark.parametrize("dataflow", get_args(Dataflow))
@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_a_better_memory_is_never_slower(dataflow: str, overlap: str) -> None:
    for shape in [(200, 60, 90), (3, 50, 70), (64, 64, 64)]:
        slower_to_faster = [
            cycles(machine(8, 8, dataflow, overlap, gb_per_s=rate), *shape) for rate in (0.5, 1.0, 2.0, 4.0, 16.0, 64.0, 1e3)
        ]
        assert slower_to_faster == sorted(slower_to_faster, reverse=True)
        late_to_soon = [cycles(machine(8, 8, dataflow, overlap, latency_ns=latency), *shape) for latency in (1000.0, 100.0, 10.0, 0.0)]
        assert late_to_soon == sorted(late_to_soon, reverse=True)
        assert late_to_soon[0] > late_to_soon[-1]


@pytest.mark.parametrize("dataflow", get_args(Dataflow))
def test_each_buffer_saves_traffic_once_it_is_large_enough(dataflow: str) -> None:
    def moved(buffers: tuple[int, int, int]) -> int:
        counters = run_systolic(machine(8, 8, dataflow, buffers=buffers), gemm(200, 150, 90)).counters
        return counters.dram_read_bytes + counters.dram_write_bytes

    small, large = 1 << 12, 1 << 20
    least = 2 * (200 * 90 + 90 * 150 + 200 * 150)
    assert moved((large, large, large)) == least
    decisive = {"ws": (0, 2), "is": (1, 2), "os": (1,)}[dataflow]
    for which in range(3):
        without = tuple(small if position == which else large for position in range(3))
        assert (moved(without) > least) == (which in decisive)  # type: ignore[arg-type]
    assert least < moved((small, small, small))


@pytest.mark.parametrize("dataflow", get_args(Dataflow))
def test_sparsity_saves_time_until_the_memory_is_the_limit(dataflow: str) -> None:
    roomy = machine(8, 8, dataflow, gb_per_s=1e4)
    dense, half, quarter = (cycles(roomy, 64, 64, 256, pattern) for pattern in (None, "2:4", "1:4"))
    assert dense > half > quarter
    assert 1.6 < dense / half <= 2.0
    starved = machine(8, 8, dataflow, gb_per_s=0.5)
    assert cycles(starved, 64, 64, 256) / cycles(starved, 64, 64, 256, "2:4") < 1.6
    assert run_systolic(starved, gemm(64, 64, 256)).stall_cycles["dram_bus"] > 0


@settings(max_examples=150, deadline=None)
@given(
    dataflow=st.sampled_from(get_args(Dataflow)), overlap=st.sampled_from(get_args(Overlap)), width=st.sampled_from(["any", 1, 2, 4]),
    pattern=st.sampled_from(["1:2", "2:4", "1:4", "2:8", "1:8", "1:16", "3:4"]).map(NMPattern.parse),
    m=sizes, n=sizes, folds=st.integers(1, 3),
)  # fmt: skip
def test_with_operands_at_hand_no_speed_up_passes_the_pattern(
    dataflow: str, overlap: str, width: str | int, pattern: NMPattern, m: int, n: int, folds: int
) -> None:
    """Whole folds, dense and compressed: a ragged last fold costs as much as a whole one and so favours whoever has fewer of them."""
    spec = machine(6, 5, dataflow, overlap, 1 << 24, input_width=width)
    product = gemm(m, n, 6 * pattern.m * folds)
    dense, sparse = (run_systolic(spec, product, one, ideal_memory=True).cycles for one in (None, pattern))
    assert sparse * pattern.m >= dense * pattern.n


@pytest.mark.parametrize("dataflow", get_args(Dataflow))
def test_a_port_carries_what_it_is_wide_and_no_more(dataflow: str) -> None:
    """At 1:8 and width w, A enters at most w elements a lane and cycle; a port that is wide enough is as good as any."""
    product, pattern = gemm(48, 48, 512), NMPattern(1, 8)
    passes = {"ws": 48 // 8, "os": 48 // 8, "is": 1}[dataflow]  # how often all of A enters
    runs = [
        run_systolic(machine(8, 8, dataflow, "full", 1 << 20, input_width=w), product, pattern, ideal_memory=True)
        for w in (1, 2, 4, 8, "any")
    ]
    cycles = [run.cycles for run in runs]
    for width, taken in zip((1, 2, 4, 8), cycles, strict=False):
        assert passes * 48 * 512 <= taken * 8 * width
    assert cycles[3] == cycles[4]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > 1.3 * cycles[3]
    waits = [wait(run, Stall.SHARED_MEMORY) for run in runs]
    assert waits[3] == waits[4] == 0
    assert (waits[0] > waits[1] > waits[2] > 0) == (dataflow != "is")
    assert run_systolic(machine(8, 8, dataflow, input_width=1), product).cycles == run_systolic(machine(8, 8, dataflow), product).cycles


def test_metadata_travels_with_the_filter() -> None:
    dense, sparse = (run_systolic(machine(buffers=1 << 20), gemm(64, 64, 64), pattern).counters for pattern in (None, NMPattern(2, 4)))
    assert dense.dram_read_bytes - sparse.dram_read_bytes == 64 * 64 * 2 - 64 * 32 * (16 + 2) // 8
    assert (dense.metadata_codes, sparse.metadata_codes) == (0, 64 * 32)
    assert sparse.executed_macs == dense.executed_macs // 2


def wait(run: SystolicRun, stall: Stall) -> float:
    return run.stall_cycles[stall.name.lower()]


def test_each_stall_has_the_cause_it_is_named_for() -> None:
    fast: dict[str, Any] = {"gb_per_s": 1e12, "latency_ns": 0.0}
    square = gemm(64, 64, 64)
    alone = run_systolic(machine(overlap="none", **fast), square)
    assert wait(alone, Stall.FILL_DRAIN) == 64 * (8 + 14)  # each of 64 folds: 8 rows to load and 14 cycles of skew
    assert sum(alone.stall_cycles.values()) == wait(alone, Stall.FILL_DRAIN)
    ragged = run_systolic(machine(overlap="full", **fast), gemm(64, 65, 64))
    assert wait(ragged, Stall.IMBALANCE) == pytest.approx(8 * 64 * 7 / 8)  # the last 8 folds use one column of eight
    late = run_systolic(machine(gb_per_s=1e12, latency_ns=300.0), square)
    assert wait(late, Stall.DRAM_ROW) >= 300
    assert wait(late, Stall.DRAM_BUS) == wait(late, Stall.DRAM_QUEUE) == 0
    slow = run_systolic(machine(gb_per_s=0.5, latency_ns=0.0), square)
    assert wait(slow, Stall.DRAM_BUS) + wait(slow, Stall.DRAM_QUEUE) + wait(slow, Stall.EPILOGUE) > 0.9 * slow.cycles - slow.busy_cycles
    spilled = run_systolic(machine(buffers=(1 << 16, 1 << 16, 1 << 10), gb_per_s=4.0), gemm(512, 8, 64))
    kept = run_systolic(machine(buffers=1 << 16, gb_per_s=4.0), gemm(512, 8, 64))
    assert spilled.counters.dram_write_bytes - kept.counters.dram_write_bytes == 7 * 512 * 8 * PARTIAL_BITS // 8
    assert spilled.cycles > kept.cycles


@given(clock=st.integers(100, 3000), rate=st.floats(1, 1000))
@example(clock=700, rate=350.0)
def test_the_bus_keeps_its_rate_at_every_clock(clock: int, rate: float) -> None:
    spec = machine(gb_per_s=rate, latency_ns=0.0).model_copy(update={"clock_mhz": clock})
    queue = MemoryQueue(array_timing(spec).memory_rate)
    ticket = 0
    for _ in range(1000):
        ticket = queue.post(0, 0, 1000)
    seconds = ticks_to_cycles(queue.served(ticket).end) / (clock * 1e6)
    assert 1e6 / seconds == pytest.approx(rate * 1e9, rel=2e-3)


def test_a_transfer_cannot_be_posted_into_the_past() -> None:
    queue = MemoryQueue(1 << RATE_BITS)
    queue.served(queue.post(10, 1, 64))
    with pytest.raises(PhysicsError):
        queue.post(9, 1, 64)


@pytest.mark.parametrize(
    ("spec", "product", "sentence"),
    [
        (machine(64, 64, buffers=(1 << 16, 4096, 1 << 16)), gemm(64, 64, 64), "buffers.filter_bytes: has halves of 2048 bytes"),
        (machine(64, 64, "is", buffers=(4096, 1 << 16, 1 << 16)), gemm(64, 64, 64), "buffers.input_bytes: has halves of 2048 bytes"),
        (machine(64, 64, "os", buffers=(1 << 16, 1 << 16, 512)), gemm(64, 64, 64), "buffers.output_bytes: has halves of 256 bytes"),
        (machine(8, 8), gemm(1 << 14, 1 << 14, 1 << 14), f"more than the {MAX_SEGMENTS:,} of one run"),
    ],
)  # fmt: skip
def test_what_an_array_cannot_hold_is_refused_in_one_sentence(spec: SystolicSpec, product: Gemm, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        run_systolic(spec, product)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
