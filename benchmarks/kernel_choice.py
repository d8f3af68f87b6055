"""What the choice of kernels leaves on the table: the kernel that runs against the best of all there are, on random GEMMs.

    python -m benchmarks.kernel_choice [--gemms 100] [--sides 64:3500] [MACHINE.yaml ...]

prints, for each machine, the mean and the worst of time(chosen) / time(best) - 1, and the share of GEMMs that lose more than 1 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.mapping.candidates import build_plan, rank
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.run.choice import RunOptions, best_kernel, capped_cycles
from nmsim.run.kernel import KernelRun, run_kernel_below
from nmsim.run.single import what_if_gemm
from nmsim.sparsity.pattern import NMPattern

ARCH_CONFIGS = Path(__file__).resolve().parents[1] / "arch_configs"
MACHINES = ("ampere.yaml", "ampere_pcie.yaml", "hopper_pcie.yaml", "ada.yaml", "volta.yaml", "ampere_flex_nm.yaml")
SEED = 2


def problems(spec: GpuSpec, count: int, smallest: int, largest: int, patterns: Sequence[str | None]) -> list[Problem]:
    """`count` GEMMs with sides log-uniform between the two, in steps of 8; patterns by turns, None for dense."""
    sides = np.exp(np.random.default_rng(SEED).uniform(math.log(smallest), math.log(largest), size=(count, 3)))
    found = []
    for index, row in enumerate(sides):
        m, n, k = (int(side) // 8 * 8 for side in row)
        gemm, pattern = what_if_gemm(m, n, k, 1, "fp16", "fp16"), patterns[index % len(patterns)]
        if pattern is None:
            found.append(lower_dense(gemm))
        else:
            kept = NMPattern.parse(pattern)
            found.append(lower_nm(gemm, "b", kept, spec.metadata_code("fp16", kept)))
    return found


def loss(spec: GpuSpec, problem: Problem) -> float:
    """How much longer the chosen kernel takes than the best of all; each of those is given up where it takes as long as the best so far."""
    chosen = best = _weighed(spec, best_kernel(spec, problem, RunOptions()))
    for one in rank(spec, problem, keep=10**6):
        limit = best / spec.kernels.reluctance(one.split_k)
        run = run_kernel_below(spec, build_plan(spec, one), spec.clock.top_mhz, limit)
        best = best if run is None else min(best, _weighed(spec, run))
    return chosen / best - 1


def patterns_of(spec: GpuSpec) -> list[str | None]:
    """Dense and the machine's own N:M of FP16."""
    return [None, *dict.fromkeys(mma.pattern for mma in spec.tensor_core.mma if mma.dtype == "fp16" and mma.nm is not None)]


def _weighed(spec: GpuSpec, run: KernelRun) -> float:
    return capped_cycles(spec, run) * spec.kernels.reluctance(run.plan.split_k)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machines", nargs="*", default=[str(ARCH_CONFIGS / name) for name in MACHINES])
    parser.add_argument("--gemms", type=int, default=100)
    parser.add_argument("--sides", default="64:3500", metavar="FROM:TO")
    arguments = parser.parse_args()
    smallest, largest = map(int, arguments.sides.split(":"))
    for machine in arguments.machines:
        spec = load_gpu(machine)
        losses = [loss(spec, problem) for problem in problems(spec, arguments.gemms, smallest, largest, patterns_of(spec))]
        over = sum(one > 0.01 for one in losses)
        print(f"{Path(machine).name}: mean {np.mean(losses):.2%}, worst {max(losses):.1%}, {over} of {len(losses)} lose more than 1 %")


if __name__ == "__main__":
    main()
