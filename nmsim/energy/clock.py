"""Which clock does a power limit leave: a search over the machine's clock steps in very few evaluations.

Assumed: power rises with the clock. Each evaluation re-runs the chip level, because memory does not slow down with the
core clock, so the search interpolates between evaluated clocks instead of bisecting. Each guess is held near enough to the
middle of the bracket that the runs left can still close it (the projection of the ITP method, Oliveira and Takahashi, ACM
TOMS 47, 2021): a bent power curve costs accuracy, but a bounded amount. Where power is not monotone the answer still fits
the limit, but a higher step that also fits may exist.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nmsim.arch.spec import ClockSpec

MAX_RUNS = 7


@dataclass(frozen=True)
class ClockChoice:
    """The clock to run at, the average power there, how many clocks were evaluated, and whether the limit lowered it.

    `power_w` exceeds the limit only where even the lowest step does.
    """

    clock_mhz: int
    power_w: float
    runs: int
    capped: bool


def clock_steps_mhz(clock_spec: ClockSpec) -> tuple[int, ...]:
    """Clocks the machine can run at, ascending: counted down from boost by `step_mhz`, and the lowest clock itself."""
    down_from_boost = range(clock_spec.boost_mhz, clock_spec.min_mhz, -clock_spec.step_mhz)
    return (clock_spec.min_mhz, *reversed(down_from_boost))


def clock_under_cap(power_at: Callable[[int], float], clock_spec: ClockSpec, limit_w: float, max_runs: int = MAX_RUNS) -> ClockChoice:
    """The highest clock step whose `power_at(clock_mhz)` in watts does not exceed `limit_w`.

    At most `max_runs` (>= 2) clocks are evaluated: boost first, and alone if it fits. The clock returned was always
    evaluated, and it fits unless the lowest step does not either. No step more than `worst_gap_steps` above it fits; where
    dynamic energy is fixed and time is a + b / clock, not even the next one does.
    """
    if max_runs < 2:
        raise ValueError(f"max_runs must be at least 2 (boost and one more), got {max_runs}")
    steps = clock_steps_mhz(clock_spec)
    boost = len(steps) - 1
    power_w = {boost: power_at(steps[boost])}
    if power_w[boost] <= limit_w:
        return ClockChoice(steps[boost], power_w[boost], runs=1, capped=False)

    gap = worst_gap_steps(len(steps), max_runs)
    fits, over = -1, boost
    while over - fits > 1 and len(power_w) < max_runs:
        runs_left_after = max_runs - len(power_w) - 1
        step = 0
        if fits >= 0 or runs_left_after > 0:
            step = _held_to_width(_interpolated_step(steps, power_w, limit_w), fits, over, gap << runs_left_after)
        power_w[step] = power_at(steps[step])
        if power_w[step] <= limit_w:
            fits = step
        else:
            over = step
    chosen = max(fits, 0)
    return ClockChoice(steps[chosen], power_w[chosen], runs=len(power_w), capped=True)


def worst_gap_steps(steps: int, max_runs: int = MAX_RUNS) -> int:
    """How far below the highest fitting clock the search may end, in steps, whatever the (rising) power curve.

    Bisection alone would reach steps / 2**(max_runs - 1); four times that lets two guesses be wrong.
    """
    return -(-4 * steps // (1 << (max_runs - 1)))


def _held_to_width(guess: int, fits: int, over: int, width: int) -> int:
    """`guess`, moved inside the bracket and so that the bracket left is no wider than `width` whichever end moves.

    While nothing fits (`fits` is -1) half of that, because the last run must then go to the lowest step.
    """
    lowest, highest = max(fits + 1, over - width), min(over - 1, fits + (width if fits >= 0 else width // 2))
    return min(max(guess, lowest), highest) if lowest <= highest else (fits + over) // 2


def _interpolated_step(steps: tuple[int, ...], power_w: Mapping[int, float], limit_w: float) -> int:
    """The step at or below the clock where a curve through the evaluated points meets the limit.

    Boost alone: the line through no power at no clock. Two points: their line. Three, those nearest the limit: the
    hyperbola through them (equal cross-ratios of clock and power), because a kernel of fixed dynamic energy whose time is
    a + b / clock has a power that is one. A flat piece gives no answer: the lowest step, for the caller to move.
    """
    points = [(watts, float(steps[step])) for step, watts in power_w.items()]
    near = sorted(points, key=lambda point: abs(point[0] - limit_w))[:3]
    if len(near) == 1:
        near.append((0.0, 0.0))
    (p0, f0), (p1, f1) = near[:2]
    if p0 == p1:
        return 0
    if len(near) == 2:
        return bisect_right(steps, f0 + (f1 - f0) * (limit_w - p0) / (p1 - p0)) - 1
    p2, f2 = near[2]
    if (limit_w - p2) * (p1 - p0) * (f1 - f2) == 0:
        return 0
    ratio = (limit_w - p0) * (p1 - p2) * (f1 - f0) / ((limit_w - p2) * (p1 - p0) * (f1 - f2))
    return 0 if ratio == 1 else bisect_right(steps, (f0 - ratio * f2) / (1 - ratio)) - 1
