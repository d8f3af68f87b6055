"""Random but consistent results: what any simulation could say, without one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import fields

import pytest

from nmsim.hw.counters import Counters
from nmsim.result.rows import ENERGY_UNITS, PHASES, Ceilings, KernelRow, SimulationResult
from nmsim.result.totals import phase_totals, scheme_totals
from nmsim.rules.stalls import BOUNDS, STALL_NAMES

MakeResult = Callable[..., SimulationResult]


def random_row(rng: random.Random, name: str, scheme: str) -> KernelRow:
    """A kernel whose busy and stall cycles sum to its cycles, its energies to its energy."""
    busy_cycles = rng.uniform(0, 1e6)
    stalls = {stall: rng.choice([0.0, rng.uniform(0, 1e5)]) for stall in STALL_NAMES}
    energies = {unit: rng.uniform(0, 1e-2) for unit in ENERGY_UNITS}
    cycles, launch_us, clock_mhz = busy_cycles + sum(stalls.values()), rng.uniform(0, 5), rng.randint(300, 2000)
    time_us = cycles / clock_mhz + launch_us
    return KernelRow(
        gemm_id=name,
        module=f"layer.{name}",
        kind="gemm",
        phase=rng.choice(PHASES),
        scheme=scheme,
        m=rng.randint(1, 10**6),
        n=rng.randint(1, 10**6),
        k=rng.randint(1, 10**6),
        l=rng.randint(1, 64),
        launches=rng.randint(1, 9),
        ran_sparse=rng.random() < 0.5,
        reason="groups run along the reduction",
        kernel="nm",
        native_pattern="2:4",
        cta_tile="128x128x64",
        waves=rng.uniform(0, 40),
        split_k=rng.randint(1, 8),
        clock_mhz=clock_mhz,
        cycles=cycles,
        compute_cycles=busy_cycles,
        busy_cycles=busy_cycles,
        launch_us=launch_us,
        time_us=time_us,
        energy_j=sum(energies.values()),
        power_w=sum(energies.values()) / time_us * 1e6,
        bound=rng.choice(BOUNDS),
        stall_cycles=stalls,
        energy_by_unit_j=energies,
        counters={f.name: rng.randint(0, 2**63 - 1) for f in fields(Counters)},
    )


def build_result(seed: int = 0, kernels: int = 6, schemes: Sequence[str] = ("traced", "dense", "tile_wise")) -> SimulationResult:
    """`kernels` random rows in each scheme; `seed` also names the trace."""
    rng = random.Random(seed)
    rows = tuple(random_row(rng, f"gemm{i}", scheme) for scheme in schemes for i in range(kernels))
    return SimulationResult(
        arch="Ampere <80 GB>",
        arch_key="a" * 64,
        trace=f"résnet-{seed}",
        trace_key=f"{seed:064d}",
        model_version="7",
        engine="compiled",
        options={"l2": "cold", "batch": None, "set": {"sm.count": 144}},
        provenance={"kind": "trained", "accuracy": 0.913, "loss": None, "versions": {"torch": "2.13"}},
        ceilings=Ceilings(1410, 312.0, {"2:4": 624.0, "1:4": 1248.0}, 5120.0, 1935.0, 19492.0),
        rows=rows,
        phases=phase_totals(rows),
        total=scheme_totals(rows),
        notes=("2 of 6 GEMMs are launch-bound.",),
        sources={"sm.*": "datasheet: <a table>", "sm.count": "set by --set"},
    )


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """`build_result`, for tests that live in other modules."""
    return build_result
