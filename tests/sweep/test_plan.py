"""Which points a sweep has: traces of one network are one workload, recipes and patterns select among them, keys follow the content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nmsim.errors import InputError
from nmsim.result.frames import key_of
from nmsim.sweep.networks import Network, RecordedTrace, read_networks, weight_pattern
from nmsim.sweep.plan import Impossible, Point, Task, plan_points
from nmsim.sweep.spec import SweepSpec
from nmsim.workload.store import read_trace, write_trace


def sweep(ampere: Path, traces: Path, names: Sequence[str] = ("layer_*",), **axes: object) -> list[Point]:
    files = tuple(file for name in names for file in sorted(traces.glob(f"{name}.nmtrace")))
    return plan_points(replace(SweepSpec((ampere,), workloads=(("", files),)), **axes))  # type: ignore[arg-type]


def places(points: Sequence[Point]) -> list[tuple[str, str, str]]:
    return [(point.coordinates.recipe, point.coordinates.pattern, point.coordinates.trace) for point in points]


def test_traces_of_the_same_layers_and_data_are_one_network(traces: Path) -> None:
    networks = read_networks([("", sorted(traces.glob("*.nmtrace")))])
    assert {network.name: network.recipes for network in networks} == {
        "layer": ("dense", "mvue", "sr-ste"),
        "wide_sr_ste_2to4": ("sr-ste",),
    }


def test_a_name_given_holds_its_traces_together(traces: Path) -> None:
    (network,) = read_networks([("mine", [traces / "layer_dense.nmtrace", traces / "wide_sr_ste_2to4.nmtrace"])])
    assert network.name == "mine"
    assert network.recipes == ("dense", "sr-ste")


def test_the_pattern_of_a_trace_is_that_of_its_weights(traces: Path) -> None:
    found = {file.stem: weight_pattern(read_trace(file)) for file in traces.iterdir()}
    assert found == {"layer_dense": "dense", "layer_sr_ste_2to4": "2:4", "layer_mvue_1to4": "1:4", "wide_sr_ste_2to4": "2:4"}


def test_without_recipes_and_patterns_each_trace_is_a_point(ampere: Path, traces: Path) -> None:
    points = sweep(ampere, traces)
    assert sorted(places(points)) == [
        ("dense", "dense", "layer_dense"),
        ("mvue", "1:4", "layer_mvue_1to4"),
        ("sr-ste", "2:4", "layer_sr_ste_2to4"),
    ]


def test_a_recorded_pattern_comes_from_its_trace_and_another_is_assumed(ampere: Path, traces: Path) -> None:
    points = sweep(ampere, traces, recipes=("sr-ste", "mvue"), patterns=("2:4", "1:4"))
    assumed = {(point.coordinates.recipe, point.coordinates.pattern): point.pattern for point in points if isinstance(point, Task)}
    assert assumed == {("sr-ste", "2:4"): None, ("sr-ste", "1:4"): "1:4", ("mvue", "2:4"): "2:4", ("mvue", "1:4"): None}


def test_a_recipe_that_prunes_nothing_is_one_point_whatever_the_patterns(ampere: Path, traces: Path) -> None:
    assert places(sweep(ampere, traces, recipes=("dense",), patterns=("2:4", "1:4", None))) == [("dense", "dense", "layer_dense")]


def test_a_recipe_that_nobody_recorded_is_a_point_that_says_so(ampere: Path, traces: Path) -> None:
    points = sweep(ampere, traces, recipes=("sr-ste", "bi-mask"))
    (missing,) = [point for point in points if isinstance(point, Impossible)]
    assert missing.coordinates.recipe == "bi-mask"
    assert "no trace of layer was recorded with this recipe, got 'bi-mask'" in missing.error
    assert "at hand: dense, mvue, sr-ste" in missing.error


def test_a_contradictory_machine_spoils_its_own_points_only(ampere: Path, traces: Path) -> None:
    points = sweep(ampere, traces, ["layer_dense"], overrides=(("sm.count", ("0", "4")),))
    bad, good = points
    assert isinstance(bad, Impossible)
    assert "sm.count" in bad.error
    assert isinstance(good, Task)


def test_a_sweep_of_which_nothing_is_possible_is_refused(ampere: Path, traces: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 1 points can be simulated; the first: .*sm\.cuont"):
        sweep(ampere, traces, ["layer_dense"], overrides=(("sm.cuont.x", ("4",)),))
    with pytest.raises(InputError, match=r"none\.yaml"):
        sweep(Path("none.yaml"), traces)


def test_every_combination_is_there_once(ampere: Path, traces: Path) -> None:
    axes = {"overrides": (("sm.count", ("2", "4")), ("launch.kernel_us", ("1", "2"))), "batches": (None, 8, 16), "dtypes": (None, "int8")}
    points = sweep(ampere, traces, ["layer_dense", "wide*"], **axes)
    assert len(points) == 2 * 4 * 2 * 2  # a batch of 8 is the recorded one
    assert len({point.key for point in points}) == len(points)
    assert {point.coordinates.overrides for point in points} >= {"sm.count=2 launch.kernel_us=1", "sm.count=4 launch.kernel_us=2"}


def test_the_planned_key_is_the_key_of_the_run(ampere: Path, traces: Path) -> None:
    from nmsim.api import simulate

    points = sweep(ampere, traces, patterns=("1:4",), batches=(16,), overrides=(("sm.count", ("4",)),), schemes=("dense",))
    for point in points:
        assert isinstance(point, Task)
        run = simulate(point.arch_file, point.trace_file, baseline=["dense"], pattern=point.pattern, batch=16, overrides=["sm.count=4"])
        assert key_of(run) == point.run_key


def test_keys_follow_what_files_say_not_where_they_lie(ampere: Path, traces: Path, tmp_path: Path) -> None:
    copy = tmp_path / ampere.name
    copy.write_bytes(ampere.read_bytes())
    before = sweep(ampere, traces, ["layer_dense"])[0]
    assert sweep(copy, traces, ["layer_dense"])[0].key == before.key
    copy.write_text(ampere.read_text().replace("count: 108", "count: 100"))
    assert sweep(copy, traces, ["layer_dense"])[0].key != before.key


def test_a_trace_recorded_anew_is_another_point(ampere: Path, traces: Path, tmp_path: Path) -> None:
    before = sweep(ampere, traces, ["layer_sr*"])[0]
    trace = read_trace(traces / "layer_sr_ste_2to4.nmtrace")
    write_trace(replace(trace, gemms=trace.gemms[:2]), tmp_path / "layer_sr_ste_2to4.nmtrace")
    assert sweep(ampere, tmp_path, ["layer_sr*"])[0].key != before.key


def test_a_stage_of_a_run_is_no_point_of_its_own(ampere: Path, staged: Path) -> None:
    (point,) = sweep(ampere, staged, ["*"], patterns=("2:4",))
    assert isinstance(point, Task)
    assert point.coordinates.trace == "layer_fst_2to4"
    assert [(steps, Path(file).stem) for steps, file in point.stages] == [(90, "layer_fst_2to4"), (10, "layer_fst_2to4-dense_tail")]
    (assumed,) = sweep(ampere, staged, ["*"], patterns=("1:4",))
    assert isinstance(assumed, Task)
    assert assumed.stages == ()  # the schedule is of the recorded pattern


def test_a_run_with_another_schedule_or_stage_is_another_point(ampere: Path, staged: Path, tmp_path: Path) -> None:
    (before,) = sweep(ampere, staged, ["*"])
    main = read_trace(staged / "layer_fst_2to4.nmtrace")
    write_trace(read_trace(staged / "layer_fst_2to4-dense_tail.nmtrace"), tmp_path / "layer_fst_2to4-dense_tail.nmtrace")
    write_trace(main, tmp_path / "layer_fst_2to4.nmtrace")
    assert sweep(ampere, tmp_path, ["*"])[0].key == before.key
    longer = tuple({**stage, "steps": 2 * stage["steps"]} for stage in main.schedule)
    write_trace(replace(main, schedule=longer), tmp_path / "layer_fst_2to4.nmtrace")
    assert sweep(ampere, tmp_path, ["*"])[0].key != before.key


def test_tile_wise_and_unstructured_weights_have_no_pattern_to_replace(traces: Path) -> None:
    trace = read_trace(traces / "layer_dense.nmtrace")
    for structure in ("tile_wise", "unstructured"):
        gemms = tuple(replace(gemm, b=replace(gemm.b, structure=structure)) if gemm.b.role == "weight" else gemm for gemm in trace.gemms)
        changed = replace(trace, gemms=gemms)
        assert weight_pattern(changed) == structure
        network = Network("n", (RecordedTrace(Path(), changed, structure),))
        assert [pattern for _, pattern in network.select("dense", "2:4")] == [None]
