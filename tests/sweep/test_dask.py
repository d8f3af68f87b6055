"""A dask cluster simulates a sweep to the same bytes; a scheduler that is not there is one sentence; Slurm's job script."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_jobqueue.slurm import SLURMJob
from distributed import LocalCluster

from nmsim.errors import InputError
from nmsim.sweep.executors import DaskCluster, InProcess
from nmsim.sweep.plan import plan_points
from nmsim.sweep.run import run_sweep
from nmsim.sweep.spec import SweepSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of two threads in this process: its protocol without its start-up time."""
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_gives_the_same_bytes(ampere: Path, traces: Path, tmp_path: Path, address: str) -> None:
    files = tuple(sorted(traces.glob("layer_*.nmtrace")))
    overrides = (("sm.count", ("2", "4", "8")),)
    points = plan_points(SweepSpec((ampere,), workloads=(("", files),), overrides=overrides, patterns=(None, "1:8")))
    there, here = tmp_path / "there", tmp_path / "here"
    assert run_sweep(points, there, DaskCluster(address)).simulated == len(points)
    run_sweep(points, here, InProcess())
    assert {file.relative_to(there): file.read_bytes() for file in there.rglob("*.parquet")} == {
        file.relative_to(here): file.read_bytes() for file in here.rglob("*.parquet")
    }


@pytest.mark.parametrize("nobody", ["tcp://127.0.0.1:9", "no address at all", "udp://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer_is_one_sentence(nobody: str) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}), pytest.raises(InputError) as refused, DaskCluster(nobody).open():
        pass
    assert "--dask: no dask scheduler answers here" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_job_script_of_the_guide_is_what_dask_jobqueue_writes() -> None:
    """The Slurm example of docs/cluster.md, run as far as it goes without Slurm."""
    guide = (ROOT / "docs" / "cluster.md").read_text()
    (written,) = re.findall(r"^cluster = (SLURMCluster\(.*?^\))", guide, re.DOTALL | re.MULTILINE)
    call = ast.parse(written, mode="eval").body
    assert isinstance(call, ast.Call)
    options: dict[str, Any] = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    script = SLURMJob("tcp://192.0.2.1:8786", "worker", **options).job_script().splitlines()
    shown = re.findall(r"^#SBATCH .*$", guide, re.MULTILINE)
    assert shown == [line for line in script if line.startswith("#SBATCH") and " -J " not in line]
    assert options["job_script_prologue"][0] in script
