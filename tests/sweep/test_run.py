"""A sweep's folder fills up, survives whatever happens to its writer, and holds the same bytes however it was filled."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nmsim.errors import InputError, PhysicsError
from nmsim.result.points import POINT, SWEEP, read_points, read_sweep, read_totals
from nmsim.result.store import read_results
from nmsim.run.trace import simulate_trace
from nmsim.sweep import run, worker
from nmsim.sweep.executors import InProcess, LocalPool
from nmsim.sweep.plan import Point, Task, plan_points
from nmsim.sweep.run import LOCK, Standing, run_sweep
from nmsim.sweep.spec import SweepSpec
from nmsim.workload.store import read_trace, write_trace
from tests.sweep.processes import bytes_of


@pytest.fixture(scope="module")
def points(ampere: Path, traces: Path) -> list[Point]:
    """Twelve points on two machines, four of them of a recipe that nobody recorded."""
    files = tuple(sorted(traces.glob("layer_*.nmtrace")))
    axes: dict[str, Any] = {"recipes": ("sr-ste", "mvue", "none"), "patterns": ("2:4", "1:4"), "overrides": (("sm.count", ("2", "4")),)}
    return plan_points(SweepSpec((ampere,), workloads=(("", files),), **axes))


@pytest.fixture(scope="module")
def swept(points: list[Point], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that sweep, simulated in this process."""
    out = tmp_path_factory.mktemp("swept") / "out"
    run_sweep(points, out, InProcess())
    return out


def test_every_point_is_in_the_folder_in_the_order_of_the_plan(points: list[Point], swept: Path) -> None:
    assert read_sweep(swept).point_keys == tuple(point.key for point in points)
    assert list(dict.fromkeys(read_points(swept)["point_key"])) == [point.key for point in points]
    assert {path.name for path in swept.iterdir()} == {SWEEP, LOCK, *(point.key for point in points)}


def test_missing_combinations_are_recorded_and_the_others_simulated(swept: Path) -> None:
    totals = read_totals(swept)
    failed = totals[totals["status"] == "failed"]
    assert set(failed["recipe"]) == {"none"}
    assert len(failed) == 4
    assert all("no trace of layer was recorded with this recipe" in error for error in failed["error"])
    assert len(read_results(swept)) == 8


def test_points_say_what_was_never_trained_or_checked(swept: Path) -> None:
    totals = read_totals(swept)
    traced = totals[totals["scheme"] == "traced"]
    said = {(row.recipe, row.pattern): (row.accuracy, row.legality) for row in traced.itertuples()}
    assert said == {
        ("sr-ste", "2:4"): ("trained", "checked"),
        ("sr-ste", "1:4"): ("untrained", "assumed"),
        ("mvue", "1:4"): ("trained", "checked"),
        ("mvue", "2:4"): ("untrained", "assumed"),
    }


def test_a_point_holds_the_numbers_of_the_same_run_alone(points: list[Point], swept: Path) -> None:
    from nmsim.api import simulate

    totals = read_totals(swept)
    task = next(point for point in points if isinstance(point, Task) and point.pattern == "1:4" and "4" in point.coordinates.overrides)
    alone = simulate(task.arch_file, task.trace_file, pattern="1:4", overrides=task.overrides)
    (stored,) = read_results(swept / task.key)
    assert stored.rows == tuple(replace(row, counters=found.counters) for row, found in zip(alone.rows, stored.rows, strict=True))
    row = totals[(totals["point_key"] == task.key) & (totals["scheme"] == "traced")].iloc[0]
    assert math.isclose(row["speedup_vs_dense"], alone.total["traced"].speedup_vs_dense or 0.0, rel_tol=1e-12)


def test_a_second_run_simulates_nothing_and_changes_nothing(points: list[Point], swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes_of(swept)
    monkeypatch.setattr(worker, "simulate_trace", None)
    standing = run_sweep(points, swept, InProcess())
    assert (standing.simulated, standing.kept, standing.failed, standing.done) == (0, 8, 4, 12)
    assert standing.best is not None
    assert bytes_of(swept) == before


def test_a_larger_sweep_keeps_what_it_shares_with_a_smaller_one(points: list[Point], swept: Path, tmp_path: Path) -> None:
    assert run_sweep(points[:5], tmp_path, InProcess()).done == 5
    standing = run_sweep(points, tmp_path, InProcess())
    assert standing.kept + standing.failed >= 5
    assert bytes_of(tmp_path) == bytes_of(swept)
    run_sweep(points[6:], tmp_path, InProcess())
    assert set(read_points(tmp_path)["point_key"]) == {point.key for point in points[6:]}


def test_the_same_bytes_in_any_order_and_with_nothing_shared(points: list[Point], swept: Path, tmp_path: Path) -> None:
    class Restless(InProcess):
        def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Any:
            worker.forget()  # a worker that remembers nothing of the point before
            return super().submit(call, arguments[0][:1], 0.0)

    alone = Restless()
    for point in reversed(points):
        run_sweep([point], tmp_path, alone)
    run_sweep(points, tmp_path, alone)
    assert bytes_of(tmp_path) == bytes_of(swept)


def test_the_same_bytes_from_two_processes(points: list[Point], swept: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    run_sweep(points, tmp_path, LocalPool(2), progress=lambda standing: seen.append(standing.done))
    assert bytes_of(tmp_path) == bytes_of(swept)
    assert seen == sorted(seen)
    assert seen[-1] == len(points)


class Stopped(BaseException):
    """A sweep ends here, as if killed."""


@pytest.mark.parametrize("kept", range(0, 8, 3))
def test_a_sweep_that_stops_anywhere_goes_on_there(points: list[Point], swept: Path, tmp_path: Path, kept: int) -> None:
    def stop(standing: Standing) -> None:
        if standing.simulated >= kept:
            raise Stopped

    class OneByOne(InProcess):
        def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Any:
            return super().submit(call, arguments[0][:1], 0.0)

    with pytest.raises(Stopped):
        run_sweep(points, tmp_path, OneByOne(), progress=stop)
    draft = tmp_path / f".{points[0].key}.{'0' * 32}"  # what a writer killed in the middle of a point leaves
    draft.mkdir()
    (draft / POINT).write_bytes(b"half")
    assert len(set(read_totals(tmp_path).query("status == 'ok'")["point_key"])) == kept
    standing = run_sweep(points, tmp_path, InProcess())
    assert (standing.kept, standing.simulated) == (kept, 8 - kept)
    assert bytes_of(tmp_path) == bytes_of(swept)


def test_a_damaged_point_is_simulated_again(points: list[Point], swept: Path, tmp_path: Path) -> None:
    run_sweep(points, tmp_path, InProcess())
    task = next(point for point in points if isinstance(point, Task))
    (tmp_path / task.key / POINT).write_bytes(b"PAR1")
    assert run_sweep(points, tmp_path, InProcess()).simulated == 1
    assert bytes_of(tmp_path) == bytes_of(swept)


def test_restart_simulates_all_anew(points: list[Point], swept: Path, tmp_path: Path) -> None:
    run_sweep(points, tmp_path, InProcess())
    assert run_sweep(points, tmp_path, InProcess(), resume=False).simulated == 8
    assert bytes_of(tmp_path) == bytes_of(swept)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PhysicsError("bytes were lost"), "internal", "bytes were lost"),
        (ZeroDivisionError("division by zero"), "internal", "ZeroDivisionError: division by zero"),
        (MemoryError(), "internal", "MemoryError"),
        (InputError("no room in memory"), "input", "no room in memory"),
    ],
)
def test_a_point_that_fails_is_recorded_and_the_others_go_on(
    points: list[Point], swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, words: str
) -> None:
    calls = iter(range(100))

    def sometimes(*arguments: Any, **named: Any) -> Any:
        if next(calls) == 2:
            raise error
        return simulate_trace(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "simulate_trace", sometimes)
        standing = run_sweep(points, tmp_path, InProcess())
    assert (standing.simulated, standing.failed) == (7, 5)
    failed = read_totals(tmp_path).query("status == 'failed' and recipe != 'none'")
    assert [(row.error_kind, row.error) for row in failed.itertuples()] == [(kind, words)]
    assert run_sweep(points, tmp_path, InProcess()).simulated == 1
    assert bytes_of(tmp_path) == bytes_of(swept)


def test_a_trace_that_changes_under_a_running_sweep_is_noticed(ampere: Path, traces: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "layer_dense.nmtrace"
    shutil.copytree(traces / "layer_dense.nmtrace", copy)
    (point,) = plan_points(SweepSpec((ampere,), workloads=(("", (copy,)),)))
    shutil.rmtree(copy)
    shutil.copytree(traces / "wide_sr_ste_2to4.nmtrace", copy)
    run_sweep([point], tmp_path / "out", InProcess())
    (failed,) = read_totals(tmp_path / "out").to_dict("records")
    assert "changed since the sweep was planned" in failed["error"]


def test_two_sweeps_do_not_write_one_folder_at_a_time(points: list[Point], tmp_path: Path) -> None:
    def meanwhile(standing: Standing) -> None:
        with pytest.raises(InputError, match="another sweep is writing here; wait for it, or choose another folder with --out"):
            run_sweep(points, tmp_path, InProcess())

    run_sweep(points[:2], tmp_path, InProcess(), progress=meanwhile)
    assert run_sweep(points, tmp_path, InProcess()).done == len(points)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_disk_that_fills_up_ends_the_sweep_in_one_sentence_and_keeps_what_is_whole(
    points: list[Point], swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int
) -> None:
    write, writes = Path.write_bytes, iter(range(10**6))

    def full(self: Path, content: bytes) -> int:
        if next(writes) >= after:
            write(self, content[: len(content) // 2])
            raise OSError(code, "no space left")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"cannot write results here \(no space left\); choose another folder"):
            run_sweep(points, tmp_path, InProcess())
    expected = bytes_of(swept)
    assert {name: content for name, content in bytes_of(tmp_path).items() if content != expected.get(name)} == {}
    run_sweep(points, tmp_path, InProcess())
    assert bytes_of(tmp_path) == expected


def test_a_folder_that_cannot_be_made_is_one_sentence(points: list[Point], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write results here"):
        run_sweep(points, tmp_path / "file", InProcess())


def test_any_executor_serves(points: list[Point], swept: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    class Threads:
        @contextmanager
        def open(self) -> Iterator[Executor]:
            with ThreadPoolExecutor(3) as pool:
                yield pool

        def capacity(self, _: Executor) -> int:
            return 3

    run_sweep(points, tmp_path, Threads())
    assert bytes_of(tmp_path) == bytes_of(swept)


def test_the_engine_is_compiled_once_before_workers_start(points: Sequence[Point], monkeypatch: pytest.MonkeyPatch) -> None:
    import nmsim.api
    import nmsim.hw.chip_compiled

    warmed: list[dict[str, int]] = []
    monkeypatch.setattr(nmsim.api, "simulate_gemm", lambda _spec, **shape: warmed.append(shape))
    monkeypatch.setattr(nmsim.hw.chip_compiled, "compiled_is_cached", lambda: True)
    run.warm_engine(points)
    assert warmed == []
    monkeypatch.setattr(nmsim.hw.chip_compiled, "compiled_is_cached", lambda: False)
    run.warm_engine(points)
    assert len(warmed) == 1


def test_a_whole_run_adds_up_its_stages_under_every_scheme(ampere: Path, staged: Path, tmp_path: Path) -> None:
    from nmsim.api import simulate_run

    file = staged / "layer_fst_2to4.nmtrace"
    files = tuple(sorted(staged.glob("*.nmtrace")))
    points = plan_points(SweepSpec((ampere,), workloads=(("", files),), patterns=(None, "1:4"), overrides=(("sm.count", ("4",)),)))
    run_sweep(points, tmp_path, InProcess())
    totals = read_totals(tmp_path)
    alone = simulate_run(ampere, file, overrides=["sm.count=4"])
    for scheme, total in alone.items():
        (row,) = totals[(totals["scheme"] == scheme) & (totals["pattern"] == "2:4")].to_dict("records")
        assert (row["run_steps"], row["run_time_s"], row["run_energy_j"]) == (100, total.time_s, total.energy_j)
    assert set(totals.query("pattern == '1:4'")["run_steps"]) == {0}


def test_systolic_arrays_and_gpus_share_a_sweep(ampere: Path, arch_configs: Path, traces: Path, tmp_path: Path) -> None:
    machines = (ampere, arch_configs / "systolic_32.yaml")
    points = plan_points(SweepSpec(machines, workloads=(("", (traces / "layer_sr_ste_2to4.nmtrace",)),)))
    standing = run_sweep(points, tmp_path, InProcess())
    assert (standing.simulated, standing.failed) == (2, 0)
    assert set(read_points(tmp_path)["arch"]) == {"ampere", "systolic_32"}


def test_a_worker_that_lives_on_notices_a_trace_recorded_anew(ampere: Path, traces: Path, tmp_path: Path) -> None:
    file = tmp_path / "layer.nmtrace"
    for name in ("layer_dense", "wide_sr_ste_2to4"):
        write_trace(read_trace(traces / f"{name}.nmtrace"), file)
        points = plan_points(SweepSpec((ampere,), workloads=(("", (file,)),)))
        assert run_sweep(points, tmp_path / "out", InProcess()).failed == 0
