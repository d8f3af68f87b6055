"""Whole processes of `nmsim sweep` that are killed, lose workers, or meet a full or read-only disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nmsim.result.points import POINT, SWEEP
from nmsim.sweep.executors import InProcess
from nmsim.sweep.plan import plan_points
from nmsim.sweep.run import LOCK, run_sweep
from nmsim.sweep.spec import read_sweep_spec
from tests.sweep.processes import alive, bytes_of, children, until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
UNSHARE = ["unshare", "-rm"]
NAMESPACES = shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0
needs_mounts = pytest.mark.skipif(not NAMESPACES, reason="2026-11-21: a tmpfs of its own needs Linux's user namespaces")


def finished(out: Path) -> int:
    """Points that are whole."""
    return len(list(out.glob(f"[0-9a-f]*/{POINT}")))


@pytest.fixture(scope="module")
def study(ampere: Path, traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of 16 points."""
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    counts = ", ".join(map(str, range(2, 10)))
    file.write_text(f"arch: {ampere}\nset: {{sm.count: [{counts}]}}\nworkload: '{traces}/layer_*ste*.nmtrace'\npattern: [2:4, 1:4]\n")
    return file


@pytest.fixture(scope="module")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of that sweep, never disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run_sweep(plan_points(read_sweep_spec(study)), out, InProcess())
    return bytes_of(out)


def command(study: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "nmsim", "sweep", str(study), "--out", str(out), *options]


def started(study: Path, out: Path, jobs: int) -> subprocess.Popen[str]:
    words = command(study, out, "--jobs", str(jobs))
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def test_killed_twice_and_started_again_it_is_complete_and_no_worker_is_left(study: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    workers: list[int] = []
    for goal in (2, 8):
        sweep = started(study, out, 2)
        until(lambda goal=goal: finished(out) >= goal)  # type: ignore[misc]
        workers += children(sweep.pid)
        sweep.kill()
        sweep.wait()
    until(lambda: not any(map(alive, workers)))
    left = bytes_of(out)
    kept = {name: content for name, content in left.items() if not name.startswith(".")}
    assert all(whole[name] == content for name, content in kept.items())
    assert finished(out) < 16
    assert subprocess.run(command(study, out, "--jobs", "2"), cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert bytes_of(out) == whole
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == {LOCK}


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_point(study: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    sweep = started(study, tmp_path, 2)
    until(lambda: finished(tmp_path) >= 2)
    victims = [pid for pid in children(sweep.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(victims[0], signal.SIGKILL)
    assert sweep.wait(PATIENCE_S) == 0
    assert bytes_of(tmp_path) == whole


@pytest.mark.slow
def test_an_interrupted_sweep_ends_at_once_with_its_workers_and_can_go_on(study: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    sweep = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{MAIN}",
            str(study),
            str(tmp_path),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: finished(tmp_path) >= 3)
    workers = children(sweep.pid)
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does: to everyone
    _, said = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 130
    assert "Traceback" not in said
    until(lambda: not any(map(alive, workers)))
    assert subprocess.run(command(study, tmp_path, "--jobs", "1"), cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert bytes_of(tmp_path) == whole


MAIN = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has its children ignore it
from nmsim.cli.main import main
if __name__ == "__main__":
    sys.exit(main(["sweep", sys.argv[1], "--out", sys.argv[2], "--jobs", "2"]))
"""


def in_a_tmpfs(mount_options: str, words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command while `place` is a tmpfs of its own, then list what the tmpfs holds."""
    place.mkdir()
    script = f'mount -t tmpfs -o {mount_options} none {place} && "$@"; code=$?; ls -A {place}; ls -A {place}/out | wc -l; exit $code'
    return subprocess.run([*UNSHARE, "sh", "-c", script, "sh", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@needs_mounts
def test_a_full_disk_ends_the_sweep_in_one_sentence_with_whole_points_only(study: Path, tmp_path: Path) -> None:
    ran = in_a_tmpfs("size=300k", command(study, tmp_path / "disk" / "out", "--jobs", "2"), tmp_path / "disk")
    assert ran.returncode == 2, ran.stderr
    assert "cannot write results here (No space left on device)" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert 1 <= int(ran.stdout.split()[-1]) < 16


@needs_mounts
def test_a_read_only_disk_is_one_sentence(study: Path, tmp_path: Path) -> None:
    ran = in_a_tmpfs("ro", command(study, tmp_path / "disk" / "out"), tmp_path / "disk")
    assert ran.returncode == 2
    assert "cannot write results here (Read-only file system); choose another folder with --out" in ran.stderr


@pytest.mark.slow
def test_a_second_sweep_on_the_folder_is_refused_while_the_first_runs(study: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    first = started(study, tmp_path, 1)
    until(lambda: (tmp_path / SWEEP).is_file())
    second = subprocess.run(command(study, tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.wait(PATIENCE_S) == 0
    assert second.returncode == 2
    assert "another sweep is writing here" in second.stderr
    assert bytes_of(tmp_path) == whole
