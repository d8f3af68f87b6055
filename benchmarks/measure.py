"""How the benchmarks measure: processes by what the operating system accounts to them, work in this process by its clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nmsim.api import load_arch
from nmsim.arch.spec import GpuSpec

ROOT = Path(__file__).parents[1]
ARCH = ROOT / "arch_configs" / "ampere.yaml"


def ampere_spec() -> GpuSpec:
    """The A100."""
    spec = load_arch(ARCH)
    assert isinstance(spec, GpuSpec)
    return spec


class Cost(NamedTuple):
    """What a process took, its start included."""

    cpu_s: float
    wall_s: float


def cost_of(arguments: list[str], environment: dict[str, str]) -> Cost:
    """Run a Python program to its end; CalledProcessError where it fails."""
    begin = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - begin)


_PEAK = """
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def peak_mib_of(program: str, arguments: list[str], environment: dict[str, str]) -> float:
    """Peak resident memory of a Python program, as Linux counts it from its start.

    Not what waiting for the process tells: that includes the pages it shared with us before it became a program of its own.
    """
    command = [sys.executable, "-c", program + _PEAK, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def cpu_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Least processor seconds of some runs in this process, after one that is not counted: other load only adds."""
    work()
    taken = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)
