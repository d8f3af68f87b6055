"""Runs of two folders are paired by what they have in common, and the parts of a change sum to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.result.compare import Change, compare_results, kernel_changes
from nmsim.result.folders import place_file, place_folder
from nmsim.result.points import POINT, SWEEP, Coordinates, Sweep, point_file, point_key, result_records, sweep_file
from nmsim.result.rows import SimulationResult
from nmsim.result.store import run_files, write_results
from nmsim.result.totals import phase_totals, scheme_totals
from tests.result.conftest import build_result

MakeResult = Callable[..., SimulationResult]


def faster(result: SimulationResult, factor: float, **changed: Any) -> SimulationResult:
    """The same run with all cycles of all kernels scaled."""
    rows = tuple(
        replace(
            row,
            cycles=row.cycles * factor,
            busy_cycles=row.busy_cycles * factor,
            stall_cycles={name: cycles * factor for name, cycles in row.stall_cycles.items()},
            time_us=row.cycles * factor / row.clock_mhz + row.launch_us,
        )
        for row in result.rows
    )
    return replace(result, rows=rows, phases=phase_totals(rows), total=scheme_totals(rows), **changed)


def one_clock(result: SimulationResult, clock_mhz: int) -> SimulationResult:
    """The same run with every kernel at a clock, as the schemes of a step have it."""
    rows = tuple(replace(row, clock_mhz=clock_mhz, time_us=row.cycles / clock_mhz + row.launch_us) for row in result.rows)
    return replace(result, rows=rows, phases=phase_totals(rows), total=scheme_totals(rows))


def swept(directory: Path, points: list[tuple[Coordinates, SimulationResult]]) -> Path:
    named = []
    for place, result in points:
        key = point_key(place, result.trace_key)
        files = {POINT: point_file(result_records(key, "run", place, result)), **run_files(result)}
        place_folder(directory, key, files)
        named.append((key, place))
    place_file(directory / SWEEP, sweep_file(Sweep(tuple(named))))
    return directory


def place(**changed: Any) -> Coordinates:
    return replace(Coordinates("ampere", "", "gpt", "sr-ste", "gpt", "2:4", 8, "fp16", "cold", "compiled"), **changed)


@settings(max_examples=15)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), clocks=st.tuples(st.integers(210, 2000), st.integers(210, 2000)))
def test_the_parts_sum_to_the_change_whatever_moved(
    tmp_path_factory: pytest.TempPathFactory, seeds: tuple[int, int], clocks: tuple[int, int]
) -> None:
    folders = []
    for seed, clock_mhz in zip(seeds, clocks, strict=True):
        result = replace(one_clock(build_result(seed), clock_mhz), trace="one", trace_key="0" * 64)
        folders.append(tmp_path_factory.mktemp("results"))
        write_results([result], folders[-1])
    (pair,) = compare_results(*folders).pairs
    kernels = [change for _, change in kernel_changes(pair)]
    for change in [*pair.schemes.values(), *pair.phases.values(), *kernels]:
        difference = change.time_us[1] - change.time_us[0]
        assert sum(change.parts_us.values()) == pytest.approx(difference, abs=1e-6 * max(change.time_us))
    for scheme, whole in pair.schemes.items():
        parts = [change for (of, _), change in pair.phases.items() if of == scheme]
        for side in (0, 1):
            assert sum(part.time_us[side] for part in parts) == pytest.approx(whole.time_us[side])
            assert sum(part.energy_j[side] for part in parts) == pytest.approx(whole.energy_j[side])


def test_a_folder_beside_itself_shows_no_change(make_result: MakeResult, tmp_path: Path) -> None:
    write_results([make_result(seed) for seed in range(3)], tmp_path)
    comparison = compare_results(tmp_path, tmp_path)
    assert len(comparison.pairs) == 3
    assert (comparison.changed, comparison.only_in_a, comparison.only_in_b) == ({}, (), ())
    for pair in comparison.pairs:
        assert pair.inputs == ()
        assert {change.ratio for change in pair.schemes.values()} == {1.0}
        assert all(change.reasons == [] for change in pair.schemes.values())


def test_what_is_common_to_no_two_runs_is_what_changed(make_result: MakeResult, tmp_path: Path) -> None:
    small = [(place(workload=f"net{seed}", overrides="sm.count=108"), make_result(seed)) for seed in range(3)]
    halved = [faster(make_result(seed), 0.5, arch_key="b" * 64) for seed in range(2)]
    large = [(place(workload=f"net{seed}", overrides="sm.count=144"), result) for seed, result in enumerate(halved)]
    comparison = compare_results(swept(tmp_path / "a", small), swept(tmp_path / "b", large))
    assert comparison.changed == {"overrides": (("sm.count=108",), ("sm.count=144",))}
    assert [pair.name for pair in comparison.pairs] == ["net0", "net1"]
    assert all(pair.inputs == ("machine",) for pair in comparison.pairs)
    assert all(change.ratio is not None and 1 < change.ratio <= 2 for pair in comparison.pairs for change in pair.schemes.values())
    (alone,) = comparison.only_in_a
    assert "net2" in alone
    assert comparison.only_in_b == ()


def test_an_axis_that_both_vary_pairs_equals_with_equals(make_result: MakeResult, tmp_path: Path) -> None:
    points = [(place(batch=batch, pattern=pattern), make_result(batch)) for batch in (8, 16) for pattern in ("2:4", "1:4")]
    comparison = compare_results(swept(tmp_path / "a", points), swept(tmp_path / "b", list(reversed(points))))
    assert [pair.name for pair in comparison.pairs] == ["2:4 batch 8", "1:4 batch 8", "2:4 batch 16", "1:4 batch 16"]
    assert all(pair.folders[0].name == pair.folders[1].name for pair in comparison.pairs)


def test_an_assumed_pattern_tells_runs_of_one_trace_apart(make_result: MakeResult, tmp_path: Path) -> None:
    recorded = make_result()
    note = "pattern 1:4 assumed on the group axes of a trained run (sr-ste), whose masks, loss and accuracy do not apply"
    assumed = replace(recorded, trace_key="f" * 64, provenance={**recorded.provenance, "notes": [note]})
    write_results([recorded, assumed], tmp_path)
    assert {pair.name for pair in compare_results(tmp_path, tmp_path).pairs} == {"recorded", "1:4"}


def test_a_stall_that_grew_is_named_first() -> None:
    change = Change((10.0, 14.0), (1.0, 1.0), {"launch": 0.0, "busy": -1.0, "dram_queue": 4.5, "imbalance": 0.5})
    assert change.reasons == [("dram_queue", 4.5), ("busy", -1.0), ("imbalance", 0.5)]
    assert change.ratio == 10 / 14
    assert Change((0.0, 1.0), (0.0, 0.0), {}).ratio is None


def test_folders_with_nothing_in_common_are_refused(make_result: MakeResult, tmp_path: Path) -> None:
    both = [(place(batch=8), make_result(0)), (place(batch=16), make_result(1))]
    others = [(place(batch=32), make_result(2)), (place(batch=64), make_result(3))]
    with pytest.raises(InputError, match="no run of one folder has a counterpart in the other"):
        compare_results(swept(tmp_path / "a", both), swept(tmp_path / "b", others))
    with pytest.raises(InputError, match="no such folder of results"):
        compare_results(tmp_path / "a", tmp_path / "none")
