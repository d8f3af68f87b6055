"""A sweep's folder: whole points or none, totals that are the run's, a plan that says what belongs to it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nmsim.errors import InputError
from nmsim.result.folders import place_file, place_folder, sweep_up_drafts
from nmsim.result.points import (
    POINT,
    POINT_COLUMNS,
    SWEEP,
    Coordinates,
    Sweep,
    failed_records,
    is_sweep,
    point_file,
    point_key,
    read_point,
    read_points,
    read_sweep,
    read_totals,
    result_records,
    sweep_file,
)
from nmsim.result.rows import PHASES, SimulationResult
from nmsim.result.store import read_results, run_files

MakeResult = Callable[..., SimulationResult]


def coordinates(**changed: object) -> Coordinates:
    plain = dict.fromkeys(Coordinates.__dataclass_fields__, "") | {"arch": "ampere", "pattern": "2:4", "batch": 8}
    return Coordinates(**(plain | changed))  # type: ignore[arg-type]


@pytest.fixture
def swept(make_result: MakeResult, tmp_path: Path) -> tuple[Path, list[SimulationResult]]:
    """A folder of two points that were simulated, one that failed and one not done yet."""
    results = [make_result(seed) for seed in range(2)]
    points = []
    for number, result in enumerate(results):
        place = coordinates(batch=number + 1)
        key = point_key(place, f"run{number}")
        records = result_records(key, f"run{number}", place, result)
        place_folder(tmp_path, key, {POINT: point_file(records), **run_files(result)})
        points.append((key, place))
    place = coordinates(recipe="none")
    key = point_key(place, "")
    place_folder(tmp_path, key, {POINT: point_file(failed_records(key, place, "input", "no trace has this recipe"))})
    absent = coordinates(batch=99)
    sweep = Sweep((*points, (key, place), (point_key(absent, "x"), absent)))
    place_file(tmp_path / SWEEP, sweep_file(sweep))
    return tmp_path, results


def test_the_plan_is_read_back(swept: tuple[Path, list[SimulationResult]]) -> None:
    directory, _ = swept
    assert is_sweep(directory)
    sweep = read_sweep(directory)
    assert [place.batch for _, place in sweep.points] == [1, 2, 8, 99]
    assert sweep_file(sweep) == (directory / SWEEP).read_bytes()


def test_rows_of_points_have_every_column_and_add_up_to_the_run(swept: tuple[Path, list[SimulationResult]]) -> None:
    directory, results = swept
    points = read_points(directory)
    assert list(points.columns) == list(POINT_COLUMNS)
    totals = read_totals(directory)
    for key, result in zip(read_sweep(directory).point_keys, results, strict=False):
        rows = points[points["point_key"] == key]
        assert set(rows["phase"]) == set(PHASES)
        for scheme, total in result.total.items():
            found = totals[(totals["point_key"] == key) & (totals["scheme"] == scheme)].iloc[0]
            assert math.isclose(found["time_us"], total.time_us, rel_tol=1e-12)
            assert math.isclose(found["energy_j"], total.energy_j, rel_tol=1e-12)
            assert total.speedup_vs_dense is not None
            assert math.isclose(found["speedup_vs_dense"], total.speedup_vs_dense, rel_tol=1e-12)
        stalls = [name for name in POINT_COLUMNS if name.startswith("stall_")]
        assert (rows["busy_cycles"] + rows[stalls].sum(axis=1)).to_numpy() == pytest.approx(rows["cycles"].to_numpy())


def test_a_failed_point_is_one_row_with_its_error(swept: tuple[Path, list[SimulationResult]]) -> None:
    totals = read_totals(swept[0])
    (failed,) = totals[totals["status"] == "failed"].to_dict("records")
    assert (failed["error_kind"], failed["error"], failed["scheme"]) == ("input", "no trace has this recipe", "")
    assert math.isnan(failed["speedup_vs_dense"])


def test_runs_of_a_sweep_are_those_of_its_present_plan(swept: tuple[Path, list[SimulationResult]]) -> None:
    directory, results = swept
    assert {result.trace for result in read_results(directory)} == {result.trace for result in results}
    kept = Sweep(read_sweep(directory).points[1:])
    place_file(directory / SWEEP, sweep_file(kept))
    assert [result.trace for result in read_results(directory)] == [results[1].trace]


def test_what_a_point_says_of_accuracy_and_legality(make_result: MakeResult) -> None:
    result, place = make_result(), coordinates()
    rows = tuple(replace(row, ran_sparse=row.scheme == "traced") for row in result.rows)
    checked = result_records("k", "r", place, replace(result, rows=rows))[0]
    assert (checked["accuracy"], checked["legality"]) == ("trained", "checked")
    guessed = tuple(replace(row, reason="2:4 assumed along the reduction") for row in rows)
    untrained = replace(result, rows=guessed, provenance={"kind": "shapes-only"})
    assumed = result_records("k", "r", place, untrained)[0]
    assert (assumed["accuracy"], assumed["legality"]) == ("untrained", "assumed")
    dense = tuple(replace(row, ran_sparse=False) for row in rows)
    assert result_records("k", "r", place, replace(result, rows=dense))[0]["legality"] == "none"


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_point_cut_short_counts_as_not_done(swept: tuple[Path, list[SimulationResult]], kept: float) -> None:
    directory, _ = swept
    key = read_sweep(directory).point_keys[0]
    file = directory / key / POINT
    whole = file.read_bytes()
    assert read_point(directory, key)
    file.write_bytes(whole[: int(len(whole) * kept)])
    assert read_point(directory, key) is None
    assert key not in set(read_points(directory)["point_key"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": "nmsim-sweep/0"}',
        '{"schema": "nmsim-sweep/1", "points": [{}]}',
        '{"schema": "nmsim-sweep/1", "points": 3}',
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / SWEEP).write_text(text)
    with pytest.raises(InputError, match=r"sweep\.json"):
        read_sweep(tmp_path)


def test_a_key_that_leads_out_of_the_folder_is_refused(swept: tuple[Path, list[SimulationResult]]) -> None:
    directory, _ = swept
    data = json.loads((directory / SWEEP).read_text())
    data["points"][0]["point_key"] = "../" * 21 + "x"
    (directory / SWEEP).write_text(json.dumps(data))
    with pytest.raises(InputError, match="names no folder"):
        read_points(directory)


def test_drafts_are_swept_up_and_nothing_else(swept: tuple[Path, list[SimulationResult]]) -> None:
    directory, _ = swept
    before = sorted(directory.iterdir())
    for name in (f".{'a' * 64}.{'b' * 32}", f".{'a' * 64}.{'b' * 32}.old"):
        (directory / name).mkdir()
        (directory / name / "half").write_text("x")
    sweep_up_drafts(directory)
    assert sorted(directory.iterdir()) == before
