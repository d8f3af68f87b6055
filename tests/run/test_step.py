"""A whole step: rows that account for themselves, phases that sum to totals, schemes side by side, and what is said first."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmsim.api import simulate
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.result.rows import PHASES, KernelRow, SimulationResult
from nmsim.run.trace import simulate_trace, trace_key
from nmsim.workload.trace import Trace


@pytest.fixture(scope="module")
def result(spec: GpuSpec, step: Trace) -> SimulationResult:
    return simulate_trace(spec, step)


def rows(result: SimulationResult, scheme: str, **wanted: Any) -> list[KernelRow]:
    return [row for row in result.rows if row.scheme == scheme and all(getattr(row, name) == value for name, value in wanted.items())]


def only(result: SimulationResult, scheme: str, gemm_id: str) -> KernelRow:
    (row,) = rows(result, scheme, gemm_id=gemm_id)
    return row


def test_every_gemm_operator_and_pass_has_a_row_in_each_scheme_that_runs_it(result: SimulationResult, step: Trace) -> None:
    gemms, operators = [gemm.id for gemm in step.gemms], [one.id for one in step.operators]
    for scheme in ("traced", "dense", "tile_wise"):
        assert [row.gemm_id for row in rows(result, scheme, kind="gemm")] == gemms
        assert [row.gemm_id for row in rows(result, scheme, kind="operator")] == operators
        assert {row.phase for row in rows(result, scheme, kind="operator")} == {"other"}
    # The passes are the recipe's: no baseline pays for them. Tiles that add to dX pay for its zeroing.
    assert [row.gemm_id for row in rows(result, "traced", kind="pass")] == [one.id for one in step.passes]
    assert not rows(result, "dense", kind="pass")
    zeroing = [row.gemm_id for row in rows(result, "tile_wise", kind="pass")]
    ran = [row.gemm_id for row in rows(result, "tile_wise", kind="gemm") if row.ran_sparse and row.phase == "backward_data"]
    assert zeroing == [f"{gemm_id}:zero_dX" for gemm_id in ran]


def test_the_phases_sum_to_the_totals_and_the_rows_to_the_phases(result: SimulationResult) -> None:
    assert list(result.total) == ["traced", "dense", "tile_wise"]
    assert [(part.phase, part.scheme) for part in result.phases] == [(phase, scheme) for scheme in result.total for phase in PHASES]
    for scheme, total in result.total.items():
        parts = [part for part in result.phases if part.scheme == scheme]
        for name in ("cycles", "time_us", "energy_j"):
            assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(total, name))
            for part in parts:
                members = rows(result, scheme, phase=part.phase)
                assert sum(getattr(row, name) for row in members) == pytest.approx(getattr(part, name))


def test_a_speed_up_is_a_ratio_of_times_launches_and_passes_included(result: SimulationResult) -> None:
    times = {scheme: total.time_us for scheme, total in result.total.items()}
    for scheme, total in result.total.items():
        assert total.speedup_vs_dense == pytest.approx(times["dense"] / times[scheme])
        assert total.speedup_vs_tile_wise == pytest.approx(times["tile_wise"] / times[scheme])
    assert times["traced"] > sum(row.launch_us for row in rows(result, "traced"))


def test_every_row_accounts_for_its_cycles_time_and_energy(result: SimulationResult) -> None:
    for row in result.rows:
        assert row.busy_cycles + sum(row.stall_cycles.values()) == pytest.approx(row.cycles)
        assert row.time_us == pytest.approx(row.cycles / row.clock_mhz + row.launch_us)
        assert row.energy_j == pytest.approx(sum(row.energy_by_unit_j.values()))
        assert row.power_w == pytest.approx(row.energy_j / row.time_us * 1e6)
        assert row.compute_cycles <= row.cycles


def test_a_repeated_gemm_costs_as_often_as_it_runs(result: SimulationResult, spec: GpuSpec, step: Trace) -> None:
    once = simulate_trace(spec, replace(step, gemms=tuple(replace(gemm, repeat=1) for gemm in step.gemms)), schemes=("dense",))
    one, two = only(once, "dense", "up:forward"), only(result, "dense", "up:forward")
    assert (one.launches, two.launches) == (1, 2)
    for name in ("cycles", "time_us", "energy_j", "launch_us"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))
    assert two.counters["dense_equivalent_macs"] == 2 * 256 * 128 * 512


def test_a_pass_counts_with_its_share_of_the_steps(spec: GpuSpec, step: Trace, result: SimulationResult) -> None:
    often = replace(step, passes=tuple(replace(one, every_steps=1) for one in step.passes))
    every, fourth = only(simulate_trace(spec, often, schemes=()), "traced", "search"), only(result, "traced", "search")
    assert fourth.time_us == pytest.approx(every.time_us / 4)
    assert "every 4 step(s)" in fourth.reason


def test_sparse_launches_cost_more_than_dense_ones(result: SimulationResult, spec: GpuSpec) -> None:
    sparse, dense = only(result, "traced", "up:forward"), only(result, "dense", "up:forward")
    assert sparse.ran_sparse
    assert sparse.native_pattern == "2:4"
    assert sparse.launch_us - dense.launch_us == pytest.approx(2 * spec.launch.nm_extra_us)
    assert sparse.counters["executed_macs"] < dense.counters["executed_macs"]


def test_a_gemm_that_runs_dense_costs_the_same_in_every_scheme(result: SimulationResult) -> None:
    for name in ("head:forward", "attention:scores:forward"):
        assert len({only(result, scheme, name).cycles for scheme in result.total}) == 1


def test_breaking_one_group_moves_that_gemm_alone(
    spec: GpuSpec, step: Trace, result: SimulationResult, make_trace: Callable[..., Trace]
) -> None:
    broken = step.payloads["up"].copy()
    broken[3, :4] = True
    masks = {**step.payloads, "up": broken}
    tampered = make_trace(list(step.gemms), masks, operators=step.operators, passes=step.passes)
    after = simulate_trace(spec, tampered, schemes=())
    assert not only(after, "traced", "up:forward").ran_sparse
    assert only(after, "traced", "up:forward").reason == "group 0 of row 3 keeps 4 of 4: broken 2:4"
    moved = {row.gemm_id for row in rows(after, "traced") if row.cycles != only(result, "traced", row.gemm_id).cycles}
    assert moved == {"up:forward"}


def test_a_launch_bound_step_says_so_and_why_sparse_is_slower(result: SimulationResult) -> None:
    assert any(note.startswith("launch-bound: launches are") for note in result.notes)
    assert any(note.startswith("the traced recipe is slower here") for note in result.notes)
    assert any("tile_wise keeps 1/2 of the pruned layers' weights" in note for note in result.notes)
    assert not any("power limit" in note for note in result.notes)


def test_an_assumed_pattern_is_said_to_be_assumed(spec: GpuSpec, step: Trace) -> None:
    bare = tuple(replace(gemm, b=replace(gemm.b, mask=None)) for gemm in step.gemms)
    assumed = simulate_trace(spec, replace(step, gemms=bare, masks={}, payloads={}), schemes=())
    assert only(assumed, "traced", "up:forward").ran_sparse
    assert any("assumed, not checked, in 2 layer(s), the first down" in note for note in assumed.notes)


def test_the_power_limit_applies_to_the_average_of_the_step(spec: GpuSpec, step: Trace, result: SimulationResult) -> None:
    average_w = {scheme: total.energy_j / total.time_us * 1e6 for scheme, total in result.total.items()}
    static_w = spec.power.static_w
    limit_w = static_w + 0.8 * (min(average_w.values()) - static_w)
    capped = simulate_trace(spec.model_copy(update={"power": spec.power.model_copy(update={"board_limit_w": limit_w})}), step)
    for scheme, total in capped.total.items():
        assert total.energy_j / total.time_us * 1e6 <= limit_w
        assert total.time_us > result.total[scheme].time_us
        assert len({row.clock_mhz for row in rows(capped, scheme)}) == 1
        assert rows(capped, scheme)[0].clock_mhz < spec.clock.boost_mhz
    (note,) = (note for note in capped.notes if "lowers the clock" in note)
    assert all(scheme in note for scheme in capped.total)


def test_warm_kernels_are_no_slower_than_cold_ones(spec: GpuSpec, step: Trace, result: SimulationResult) -> None:
    warm = simulate(spec, step, l2="warm")
    assert warm.options["l2"] == "warm"
    for scheme, total in warm.total.items():
        assert total.time_us < result.total[scheme].time_us


def test_both_engines_give_the_same_step(spec: GpuSpec, step: Trace) -> None:
    small = replace(step, gemms=step.gemms[:3], operators=step.operators[:1], passes=())
    compiled, simpy = (simulate(spec, small, engine=engine) for engine in ("compiled", "simpy"))
    assert compiled.rows == simpy.rows
    assert (compiled.engine, simpy.engine) == ("compiled", "simpy")


def test_the_same_step_gives_the_same_result_twice(spec: GpuSpec, step: Trace, result: SimulationResult) -> None:
    assert simulate_trace(spec, step) == result


def test_progress_is_told_what_is_being_simulated(spec: GpuSpec, step: Trace) -> None:
    told: list[str] = []
    simulate_trace(spec, step, schemes=(), progress=lambda done, of, what: told.append(what) if done < of else None)
    assert [f"traced {gemm.id}" for gemm in step.gemms] == told[: len(step.gemms)]
    assert {"layer_norm", "adam", "mask_search", "compress"} <= set(told)


def test_a_machines_ceilings_stand_beside_the_rows(result: SimulationResult, spec: GpuSpec) -> None:
    assert result.ceilings.dense_tflops == pytest.approx(2 * 1024 * spec.sm.count * result.ceilings.clock_mhz / 1e6)
    assert result.ceilings.nm_tflops["2:4"] == pytest.approx(2 * result.ceilings.dense_tflops)
    for row in result.rows:
        assert 2 * row.counters["executed_macs"] / row.time_us / 1e6 <= result.ceilings.dense_tflops


def test_what_timing_reads_is_in_the_traces_key_and_nothing_else(step: Trace) -> None:
    key = trace_key(step)
    assert trace_key(replace(step, name="other", provenance=replace(step.provenance, loss=1.0, accuracy=0.5))) == key
    assert trace_key(replace(step, tile_wise={**step.tile_wise, "1/8": {}})) == key
    broken = {**step.masks, "up": replace(step.masks["up"], digest="0" * 64)}
    columns = np.ones(512, dtype=np.bool_)
    plan = replace(step.tile_wise["1/2"]["up"], columns=columns)
    for changed in (
        replace(step, masks=broken),
        replace(step, gemms=step.gemms[1:]),
        replace(step, operators=()),
        replace(step, passes=()),
        replace(step, tile_wise={"1/2": {**step.tile_wise["1/2"], "up": plan}}),
    ):
        assert trace_key(changed) != key


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"baseline": ["pruned"]}, "--baseline: no such scheme, got 'pruned'; use one of traced, dense, tile_wise"),
        ({"gemms": ()}, {}, "the trace holds no GEMM"),
        ({}, {"l2": "lukewarm"}, "--l2: no such L2 state"),
        ({}, {"engine": "verilog"}, "--engine: no such engine"),
        ({}, {"dtype": "fp32"}, "has no dense matrix instruction for fp32"),
        ({}, {"pattern": "2-4"}, "not an N:M pattern"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    change: dict[str, Any], options: dict[str, Any], words: str, spec: GpuSpec, step: Trace
) -> None:
    with pytest.raises(InputError, match=words):
        simulate(spec, replace(step, **change), **options)


def test_another_type_and_another_pattern_run_the_same_step(spec: GpuSpec, step: Trace, result: SimulationResult) -> None:
    as_int8 = simulate(spec, step, dtype="int8", baseline=["dense"])
    assert as_int8.options["dtype"] == "int8"
    assert {row.kernel.split("_")[1] for row in rows(as_int8, "dense", kind="gemm")} == {"s8"}
    one_four = simulate(spec, step, pattern="1:4", baseline=["dense"])
    row = only(one_four, "traced", "up:forward")
    assert row.ran_sparse
    assert "assumed" in row.reason
    assert row.cycles == only(result, "traced", "up:forward").cycles  # runs as 2:4


def test_an_operator_that_no_memory_holds_is_refused(spec: GpuSpec, step: Trace) -> None:
    huge = replace(step.operators[0], bytes_read=1 << 50)
    with pytest.raises(InputError, match=r"layer_norm: the tensors take .* GiB"):
        simulate_trace(spec, replace(step, operators=(huge,)), schemes=())


def test_a_type_that_is_not_transposed_on_load_pays_for_copies_of_the_operands_that_need_it(spec: GpuSpec, step: Trace) -> None:
    """Forward reads both operands along k; backward_data has W across it, backward_weight both dY and X."""
    linear = replace(step, gemms=step.gemms[:3], operators=(), passes=())
    copies = {
        dtype: [row.gemm_id for row in rows(simulate(spec, linear, dtype=dtype, baseline=["dense"]), "dense", kind="pass")]
        for dtype in ("fp16", "int8")
    }
    expected = ["up:backward_data:transpose_B", "up:backward_weight:transpose_A", "up:backward_weight:transpose_B"]
    assert copies == {"fp16": [], "int8": expected}


def test_a_transposed_copy_moves_its_operand_in_and_out(spec: GpuSpec, step: Trace) -> None:
    linear = replace(step, gemms=step.gemms[:3], operators=(), passes=())
    copy = only(simulate(spec, linear, dtype="int8", baseline=["dense"]), "dense", "up:backward_data:transpose_B")
    assert copy.phase == "other"
    assert copy.launches == 2  # as often as its GEMM
    assert copy.counters["l2_read_bytes"] == copy.counters["l2_write_bytes"] == 2 * 512 * 128
    assert "int8 can't be transposed on load" in copy.reason
