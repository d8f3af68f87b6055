"""Which clock does a power limit leave: a search over the machine's clock steps in very few evaluations.

Assumed: power rises with the clock, from what the idle machine takes. Each evaluation re-runs the chip level, because
memory does not slow down with the core clock, so the search follows the curve that kernels have instead of bisecting: energy
above idle goes with the square of the voltage, which the machine gives, and time is a + b / clock. Guesses are held near enough to
the middle of the bracket that the runs left can still close it (the projection of the ITP method, Oliveira and Takahashi, ACM TOMS
47, 2021): another curve costs accuracy, but a bounded amount. Where power is not monotone the answer still fits the limit, but a
higher step that also fits may exist.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

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
    """Clocks the machine can run at, ascending: counted down from the top one by `step_mhz`, and the lowest clock itself."""
    down_from_top = range(clock_spec.top_mhz, clock_spec.min_mhz, -clock_spec.step_mhz)
    return (clock_spec.min_mhz, *reversed(down_from_top))


def clock_of_share(share: float, clock_spec: ClockSpec, clock_mhz: int, energy_ratio: Callable[[float], float]) -> int:
    """The highest clock step at which power above idle is at most `share` of that at `clock_mhz`, were time all cycles."""
    steps = clock_steps_mhz(clock_spec)
    limit = share * clock_mhz * energy_ratio(clock_mhz)
    return steps[max(bisect_right(steps, limit, key=lambda step: step * energy_ratio(step)) - 1, 0)]


def clock_under_cap(
    power_at: Callable[[int], float],
    clock_spec: ClockSpec,
    limit_w: float,
    idle_w: float,
    max_runs: int = MAX_RUNS,
    energy_ratio: Callable[[float], float] = lambda _: 1.0,
) -> ClockChoice:
    """The highest clock step whose `power_at(clock_mhz)` in watts does not exceed `limit_w`.

    `idle_w` is what the power comes to at no clock; `energy_ratio(clock_mhz)` what switching costs there, which never falls
    with the clock. At most `max_runs` (>= 2) clocks are evaluated: boost first, and alone if
    it fits. The clock returned was always evaluated, and it fits unless the lowest step does not either. No step more than
    `worst_gap_steps` above it fits; where dynamic energy is fixed and time is a + b / clock, not even the next one does.
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
            guess = _guess(steps, power_w, fits, over, limit_w, idle_w, energy_ratio)
            step = _held_to_width(guess, fits, over, gap << runs_left_after)
        power_w[step] = power_at(steps[step])
        if power_w[step] <= limit_w:
            fits = step
        else:
            over = step
    chosen = max(fits, 0)
    return ClockChoice(steps[chosen], power_w[chosen], runs=len(power_w), capped=True)


def worst_gap_steps(steps: int, max_runs: int = MAX_RUNS) -> int:
    """How far below the highest fitting clock the search may end, in steps, whatever the (rising) power curve.

    Bisection alone would reach steps / 2**(max_runs - 1); sixteen times that lets four guesses be wrong.
    """
    return -(-16 * steps // (1 << (max_runs - 1)))


def _held_to_width(guess: int, fits: int, over: int, width: int) -> int:
    """`guess`, moved inside the bracket and so that the bracket left is no wider than `width` whichever end moves.

    While nothing fits (`fits` is -1) half of that, because the last run must then go to the lowest step.
    """
    lowest, highest = max(fits + 1, over - width), min(over - 1, fits + (width if fits >= 0 else width // 2))
    return min(max(guess, lowest), highest) if lowest <= highest else (fits + over) // 2


def _guess(
    steps: tuple[int, ...],
    power_w: dict[int, float],
    fits: int,
    over: int,
    limit_w: float,
    idle_w: float,
    energy_ratio: Callable[[float], float],
) -> int:
    """Where the curve probably meets the limit, as a step.

    With one point, on the line from idle at no clock through it. With two, those that bracket the limit or are next to it,
    on the hyperbola through idle and them: the curve of a time a + b / clock. Two that are equally high lie where memory is
    the limit and say nothing of the rise below: half-way down. Drawn on from a point that fits, the line stays above a
    curve that flattens towards the top: the least guess then, and the next one where the hyperbola went too far.
    """
    limit = limit_w - idle_w
    other = fits if fits >= 0 else min((step for step in power_w if step > over), default=over)
    (p0, f0), (p1, f1) = (((power_w[step] - idle_w) / energy_ratio(steps[step]), steps[step]) for step in sorted((over, other)))
    if p0 <= 0:
        return fits + 1
    line = _highest(steps, limit, energy_ratio, 0.0, f0 / p0)
    if f1 == f0 or (fits >= 0 and next(reversed(power_w)) == over):
        return line
    a = (f1 / p1 - f0 / p0) / (f1 - f0)
    b = f0 / p0 - a * f0
    if fits < 0 and b <= 0:
        return (fits + over) // 2
    hyperbola = _highest(steps, limit, energy_ratio, a, b)
    return max(line, hyperbola) if fits >= 0 else hyperbola


def _highest(steps: tuple[int, ...], limit: float, energy_ratio: Callable[[float], float], a: float, b: float) -> int:
    """The last step at which energy_ratio(clock) * clock / (a * clock + b) is at most `limit`; -1 where the curve can't be one."""
    if b <= 0 or a * limit >= energy_ratio(steps[-1]):
        return -1

    def predicted(clock_mhz: int) -> float:
        duration = a * clock_mhz + b
        return energy_ratio(clock_mhz) * clock_mhz / duration if duration > 0 else inf

    return bisect_right(steps, limit, key=predicted) - 1
