"""Run a sweep into its folder: what is there is kept, what is missing is simulated, what fails is recorded.

One process writes a folder at a time, and it alone: points come back from workers as bytes and are put in place whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nmsim.errors import InputError
from nmsim.result.folders import cannot_write, place_file, place_folder, sweep_up_drafts
from nmsim.result.points import POINT, SWEEP, Record, Sweep, failed_records, point_file, read_point, sweep_file
from nmsim.sweep.plan import Impossible, Point, Task
from nmsim.sweep.schedule import Workers, simulate_points

LOCK = ".sweep.lock"


@dataclass
class Standing:
    """How far a sweep is: `kept` points were there before, `simulated` were not, `failed` are recorded as such, now or before."""

    points: int
    kept: int = 0
    simulated: int = 0
    failed: int = 0
    processor_s: float = 0.0
    """Processor time of the workers in simulations."""
    best: Record | None = None
    """The point whose traced step gains most over dense: its coordinates, `speedup_vs_dense`, `time_us` and `energy_j`."""

    @property
    def done(self) -> int:
        """Points that need no more work."""
        return self.kept + self.simulated + self.failed


def run_sweep(
    points: Sequence[Point],
    out: Path,
    workers: Workers,
    *,
    resume: bool = True,
    progress: Callable[[Standing], None] = lambda _: None,
) -> Standing:
    """Simulate the points that `out` does not hold yet; every finished one is there whole, whatever happens next.

    With `resume` False all are simulated anew; failed points always are. InputError where `out` can't be written or another
    sweep is writing it; it then holds all points done so far.
    """
    standing = Standing(len(points))
    with _alone_in(out):
        place_file(out / SWEEP, sweep_file(Sweep(tuple((point.key, point.coordinates) for point in points))))
        missing: list[Task] = []
        for point in points:
            if isinstance(point, Impossible):
                records = failed_records(point.key, point.coordinates, "input", point.error)
                if read_point(out, point.key) != records:
                    place_folder(out, point.key, {POINT: point_file(records)})
                _count(standing, records)
                continue
            there = read_point(out, point.key) if resume else None
            if there is None or there[0]["status"] == "failed":
                missing.append(point)
            else:
                standing.kept += _count(standing, there)
        progress(standing)
        for done in simulate_points(missing, workers):
            for outcome in done.outcomes:
                place_folder(out, outcome.key, outcome.files)
                standing.simulated += _count(standing, outcome.records)
            standing.processor_s += done.processor_s
            progress(standing)
    return standing


def warm_engine(tasks: Sequence[Point]) -> None:
    """Compile the engine here, once, before workers start that would each compile it."""
    task = next((point for point in tasks if isinstance(point, Task) and point.options.engine == "compiled"), None)
    if task is None:
        return
    from nmsim.api import load_arch, simulate_gemm
    from nmsim.hw.chip_compiled import compiled_is_cached

    if not compiled_is_cached():
        simulate_gemm(load_arch(task.arch_file), m=64, n=64, k=64)


def _count(standing: Standing, records: Sequence[Record]) -> bool:
    """Take a finished point into account; False for one that failed."""
    if records[0]["status"] == "failed":
        standing.failed += 1
        return False
    sums: dict[str, list[float]] = {}
    for record in records:
        total = sums.setdefault(record["scheme"], [0.0, 0.0])
        total[0] += record["time_us"]
        total[1] += record["energy_j"]
    time_us, energy_j = sums["traced"]
    if "dense" in sums and time_us:
        gain = sums["dense"][0] / time_us
        if standing.best is None or gain > standing.best["speedup_vs_dense"]:
            standing.best = {**records[0], "speedup_vs_dense": gain, "time_us": time_us, "energy_j": energy_j}
    return True


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system frees when this process ends, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("a")
    except OSError as error:
        raise cannot_write(out, error) from None
    with lock:
        if not _locked(lock.fileno()):
            raise InputError("another sweep is writing here", file=out, fix="wait for it, or choose another folder with --out")
        sweep_up_drafts(out)
        yield


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file; False where another process has it. Systems without such locks go without."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks
        return True
    return True
