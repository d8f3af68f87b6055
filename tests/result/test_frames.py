"""The tables keep everything, and their columns never depend on what was simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.hw.counters import Counters
from nmsim.result.frames import arrow_tables, counters_frame, kernels_frame, key_of, result_of_tables, run_key, runs_frame
from nmsim.result.rows import ENERGY_UNITS, KernelRow, SimulationResult
from nmsim.result.schema import COUNTER_UNITS, KERNEL_SCALARS, TABLES
from nmsim.rules.stalls import STALL_NAMES

MakeResult = Callable[..., SimulationResult]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), kernels=st.integers(0, 5))
def test_tables_give_back_the_result_they_were_made_of(make_result: MakeResult, seed: int, kernels: int) -> None:
    result = make_result(seed, kernels)
    assert result_of_tables(arrow_tables(result), result.provenance) == result


def test_columns_and_types_are_the_same_for_no_run_a_bare_run_and_a_full_one(make_result: MakeResult) -> None:
    full = make_result()
    bare_row = replace(full.rows[0], stall_cycles={}, energy_by_unit_j={}, counters={})
    bare = replace(full, rows=(bare_row,), notes=(), options={}, provenance={})
    for frame in (runs_frame, kernels_frame, counters_frame):
        dtypes = [frame(results).dtypes.to_dict() for results in ([], [bare], [full], [full, bare])]
        assert all(found == dtypes[0] for found in dtypes)


def test_every_stall_and_every_energy_unit_is_a_column(make_result: MakeResult) -> None:
    columns = set(kernels_frame([make_result()]).columns)
    assert {f"stall_{name}_cycles" for name in STALL_NAMES} <= columns
    assert {f"energy_{unit}_j" for unit in ENERGY_UNITS} <= columns


def test_every_field_of_a_row_is_stored() -> None:
    mappings = {"stall_cycles", "energy_by_unit_j", "counters"}
    assert set(KERNEL_SCALARS) | mappings == {f.name for f in fields(KernelRow)}


def test_every_counter_has_a_unit_and_a_unit_of_measure() -> None:
    assert set(COUNTER_UNITS) == {f.name for f in fields(Counters)}


def test_busy_and_stall_columns_sum_to_the_cycles_of_each_kernel(make_result: MakeResult) -> None:
    kernels = kernels_frame([make_result(seed=3)])
    accounted = kernels["busy_cycles"] + kernels[[f"stall_{name}_cycles" for name in STALL_NAMES]].sum(axis=1)
    assert accounted.to_numpy() == pytest.approx(kernels["cycles"].to_numpy())


def test_counters_join_the_kernels_by_run_and_row(make_result: MakeResult) -> None:
    results = [make_result(seed=1), make_result(seed=2)]
    kernels, counters = kernels_frame(results), counters_frame(results)
    joined = kernels.merge(counters, on=["run_key", "row"], validate="one_to_many")
    assert len(joined) == len(counters) == len(kernels) * len(COUNTER_UNITS)
    assert (joined["gemm_id_x"] == joined["gemm_id_y"]).all()


def test_the_table_of_runs_names_every_declared_column_once(make_result: MakeResult) -> None:
    assert list(runs_frame([make_result()]).columns) == list(TABLES["runs"])


def test_a_count_beyond_64_bits_is_refused_in_a_sentence(make_result: MakeResult) -> None:
    result = make_result()
    huge = replace(result, rows=(replace(result.rows[0], counters={"executed_macs": 2**63}),))
    with pytest.raises(InputError, match="a counter does not fit 64 bits; simulate a smaller --batch"):
        arrow_tables(huge)


@pytest.mark.parametrize(
    "change",
    [{"arch_key": "b"}, {"trace_key": "b"}, {"model_version": "8"}, {"engine": "simpy"}, {"options": {"l2": "warm"}}],
    ids=lambda change: next(iter(change)),
)
def test_a_run_has_another_key_once_anything_its_numbers_come_from_changes(make_result: MakeResult, change: dict[str, object]) -> None:
    result = make_result()
    assert key_of(replace(result, **change)) != key_of(result)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"notes": ()}, {"provenance": {"accuracy": 0.1}}, {"arch": "another name"}], ids=str)
def test_the_key_does_not_depend_on_names_notes_or_accuracy(make_result: MakeResult, change: dict[str, object]) -> None:
    result = make_result()
    assert key_of(replace(result, **change)) == key_of(result)  # type: ignore[arg-type]


def test_the_key_does_not_depend_on_the_order_of_options() -> None:
    def key(options: dict[str, object]) -> str:
        return run_key(arch_key="a", trace_key="t", model_version="1", engine="simpy", options=options)

    assert key({"l2": "cold", "batch": 8}) == key({"batch": 8, "l2": "cold"})
