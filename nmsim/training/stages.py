"""Stages of a run: stretches of steps of which each costs the same, so that a whole run is a sum of a few recorded steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmsim.errors import InputError

MAIN = ""
"""Name of the stage whose step the trace itself holds: the one that the recipe is there for."""


@dataclass(frozen=True)
class Stage:
    """`steps` steps in a row; `restarts` where the learning rate begins its warm-up and decay anew."""

    name: str
    steps: int
    restarts: bool = False

    def trace_name(self, run: str) -> str:
        """Name of the trace that holds a step of this stage of the run recorded as `run`."""
        return run if self.name == MAIN else f"{run}-{self.name}"


def split_steps(steps: int, shares: Sequence[float]) -> list[int]:
    """`steps` split by `shares` (which add up to 1), each part at least one step; InputError where there are too few steps."""
    if steps < len(shares):
        raise InputError(f"the recipe has {len(shares)} stages of at least one step", path="--steps", value=steps)
    parts = [max(1, round(steps * share)) for share in shares]
    largest = parts.index(max(parts))
    parts[largest] += steps - sum(parts)
    return parts


def stage_of(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that `step` (from 1) lies in."""
    end = 0
    for stage in stages:
        end += stage.steps
        if step <= end:
            return stage
    return stages[-1]


def learning_rate_leg(stages: Sequence[Stage], step: int) -> tuple[int, int]:
    """(step within its leg from 1, steps of the leg): a leg runs from one restart of the learning rate to the next."""
    begin = end = 0
    for stage in stages:
        if stage.restarts:
            if step <= end:
                break
            begin = end
        end += stage.steps
    return step - begin, end - begin
