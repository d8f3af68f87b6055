"""A whole training run from a few of its steps: what a trace's schedule adds up to, under every scheme.

A run's stages (dense at first, sparse, a dense tail) differ in what a step costs; the schedule says how many steps each recorded
step stands for. The accuracy beside it is that of the recorded run: the dense scheme here is the same steps run dense, and its
accuracy is that of the dense run's own trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmsim.errors import InputError
from nmsim.result.rows import SimulationResult
from nmsim.result.totals import speedup


@dataclass(frozen=True)
class RunTotal:
    """All steps of a run under one scheme."""

    steps: int
    time_s: float
    energy_j: float
    speedup_vs_dense: float | None


def first_steps(schedule: Sequence[Mapping[str, Any]], steps: int) -> tuple[Mapping[str, Any], ...]:
    """The part of a schedule that its first `steps` steps are."""
    found: list[Mapping[str, Any]] = []
    for entry in schedule:
        taken = min(int(entry["steps"]), steps)
        if taken > 0:
            found.append({**entry, "steps": taken})
        steps -= taken
    return tuple(found)


def run_totals(schedule: Sequence[Mapping[str, Any]], results: Mapping[str, SimulationResult]) -> dict[str, RunTotal]:
    """Scheme -> totals of the run; `schedule` entries are {steps, trace}, `results` the simulated step of each trace by name.

    Schemes that were not simulated for every trace are left out. InputError for an empty schedule or a trace without a result.
    """
    if not schedule:
        raise InputError("the trace has no schedule, so how many steps the run had is not known", fix="record it with nmsim train")
    missing = [entry["trace"] for entry in schedule if entry["trace"] not in results]
    if missing:
        raise InputError("a trace that the schedule names was not simulated", path="schedule", value=missing[0])
    parts = [(int(entry["steps"]), results[entry["trace"]].total) for entry in schedule]
    schemes = [scheme for scheme in parts[0][1] if all(scheme in total for _, total in parts)]
    time_us = {scheme: sum(steps * total[scheme].time_us for steps, total in parts) for scheme in schemes}
    return {
        scheme: RunTotal(
            steps=sum(steps for steps, _ in parts),
            time_s=time_us[scheme] / 1e6,
            energy_j=sum(steps * total[scheme].energy_j for steps, total in parts),
            speedup_vs_dense=speedup(time_us.get("dense"), time_us[scheme]),
        )
        for scheme in schemes
    }
