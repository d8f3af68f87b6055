"""What every benchmark shares: the machine, a warm engine, and an environment for runs of the command line.

Times are processor seconds (user + system) of the one core that the simulator uses: a busy neighbour moves them less than
it moves a wall clock. Ratios are taken between runs that alternate.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.measure import ARCH, ampere_spec, cost_of
from nmsim.api import simulate_gemm
from nmsim.arch.spec import GpuSpec


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache of our own, one thread, bytecode kept (as an installed package has it), the compiled engine on disk."""
    folder = tmp_path_factory.mktemp("cache")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"NMSIM_CACHE_DIR": str(folder / "nmsim"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "OMP_NUM_THREADS": "1"}
    for flags in ([], ["--json"], ["--pattern", "2:4"]):
        cost_of(["-m", "nmsim", "gemm", str(ARCH), "--m", "64", "--n", "64", "--k", "64", *flags], environment)
    return environment


@pytest.fixture
def empty_sm_cache(environment: dict[str, str]) -> Callable[[], None]:
    """Forgets every SM-level result, not the compiled code."""

    def forget() -> None:
        for folder in Path(environment["NMSIM_CACHE_DIR"]).glob("*/mainloops"):
            shutil.rmtree(folder)

    return forget


@pytest.fixture(scope="session")
def ampere() -> GpuSpec:
    """The A100, with the engine compiled and in memory."""
    spec = ampere_spec()
    simulate_gemm(spec, m=64, n=64, k=64)
    return spec
