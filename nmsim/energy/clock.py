"""Which clock does a power limit leave: a search over the machine's clock steps in very few evaluations.

Assumed: power rises with the clock, from what the idle machine takes. Each evaluation re-runs the chip level, because
memory does not slow down with the core clock, so the search follows the curve that kernels have instead of bisecting: energy
above idle goes with a ratio that the caller knows (the square of the voltage, for what is switched on the chip), and clock x time
is a straight line between two clocks near each other. Of kernels whose time is a + b / clock it is one everywhere; of
any mix of kernels that core or memory bounds, whichever takes longer, it is convex, so that power between two evaluated clocks is
no less than the line has it. That is how the search knows when to stop: the next step up is not run to see that it does not fit.
Guesses are held near enough to the middle of the bracket that the runs left can still close it (the projection of the ITP method,
Oliveira and Takahashi, ACM TOMS 47, 2021): another curve costs accuracy, but a bounded amount. Where power is not monotone the
answer still fits the limit, but a higher step that also fits may exist.
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
    clocked_share: float = 1.0,
    near: float = 0.0,
) -> ClockChoice:
    """The highest clock step whose `power_at(clock_mhz)` in watts does not exceed `limit_w`.

    `idle_w` is what the power comes to at no clock; `energy_ratio(clock_mhz)` what the work's energy above that goes with, which never
    falls with the clock; `clocked_share` a guess at the share of the time at the top clock that goes with the clock, which costs runs
    where it is wrong and nothing else. At most `max_runs` (>= 2) clocks are evaluated: boost first, and alone if
    it fits. The clock returned was always evaluated, and it fits unless the lowest step does not either. The next step was evaluated and
    does not fit, or is predicted not to by the curve through the evaluated clocks around it (or to draw all of the limit but a share
    of `near`): sure where clock x time is convex in the clock and energy is as `energy_ratio` says. Whatever the (rising) curve,
    no step more than `worst_gap_steps` above fits.
    """
    if max_runs < 2:
        raise ValueError(f"max_runs must be at least 2 (boost and one more), got {max_runs}")
    steps = clock_steps_mhz(clock_spec)
    boost = len(steps) - 1
    power_w = {boost: power_at(steps[boost])}
    if power_w[boost] <= limit_w:
        return ClockChoice(steps[boost], power_w[boost], runs=1, capped=False)

    search = _Search(steps, limit_w, idle_w, energy_ratio, near, power_w)
    gap = worst_gap_steps(len(steps), max_runs)
    while search.over - search.fits > 1 and len(power_w) < max_runs:
        if search.over - search.fits <= gap and search.next_is_over():
            break
        runs_left_after = max_runs - len(power_w) - 1
        step = 0
        if search.fits >= 0 or runs_left_after > 0:
            step = _held_to_width(search.guess(clocked_share), search.fits, search.over, gap << runs_left_after)
        power_w[step] = power_at(steps[step])
    chosen = max(search.fits, 0)
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


@dataclass
class _Search:
    """The steps evaluated so far, in the order in which they were, and the curve through them: power above idle is
    energy_ratio(clock) * clock / (a * clock + b), of a time in which `b` goes with the clock and `a` does not.
    """

    steps: tuple[int, ...]
    limit_w: float
    idle_w: float
    energy_ratio: Callable[[float], float]
    near: float
    power_w: dict[int, float]

    @property
    def over(self) -> int:
        """The lowest step known not to fit."""
        return min(step for step, power_w in self.power_w.items() if power_w > self.limit_w)

    @property
    def fits(self) -> int:
        """The highest step known to fit; -1 for none."""
        return max((step for step, power_w in self.power_w.items() if power_w <= self.limit_w), default=-1)

    def next_is_over(self) -> bool:
        """Whether the step above the one that fits is predicted not to, by more than rounding, or by less than `near`."""
        if self.fits < 0 or self.power_w[self.fits] <= self.idle_w:
            return False
        a, b = self._curve(self.fits, self.over)
        return self._above_idle_w(self.steps[self.fits + 1], a, b) > (self.limit_w * (1 - self.near) - self.idle_w) * (1 + 1e-9)

    def guess(self, clocked_share: float) -> int:
        """Where the curve probably meets the limit, as a step.

        With one point, on the curve through it of so large a share of time that goes with the clock. With two, those that bracket the
        limit or are next to it, on the curve through them. Two between which time does not fall lie where memory is the limit: on
        the curve of the energy alone, and where that does not fall either, so that they say nothing of what lies below, half-way
        down. Where the curve from a point that fits went too far, on that of a time which all goes with the clock: it stays above one
        that flattens towards the top, and gives the least guess.
        """
        fits, over = self.fits, self.over
        if min(self.power_w[step] for step in (over, fits) if step >= 0) <= self.idle_w:
            return fits + 1
        if fits < 0 and len(self.power_w) == 1:
            whole = self._clock_time(over)
            return self._highest((1 - clocked_share) * whole / self.steps[over], clocked_share * whole)
        if fits >= 0 and next(reversed(self.power_w)) == over:
            return self._highest(0.0, self._clock_time(fits))
        a, b = self._curve(fits if fits >= 0 else min(step for step in self.power_w if step > over), over)
        if fits >= 0:
            return max(self._highest(a, b), self._highest(0.0, self._clock_time(fits)))
        if b > 0:
            return self._highest(a, b)
        guess = self._highest(self._clock_time(over) / self.steps[over], 0.0)
        return guess if 0 <= guess < over else over // 2

    def _clock_time(self, step: int) -> float:
        """Clock x time, in units in which the work's energy is `energy_ratio`."""
        return self.steps[step] * self.energy_ratio(self.steps[step]) / (self.power_w[step] - self.idle_w)

    def _curve(self, one: int, other: int) -> tuple[float, float]:
        """(a, b) of clock x time = a * clock + b through two steps."""
        a = (self._clock_time(other) - self._clock_time(one)) / (self.steps[other] - self.steps[one])
        return a, self._clock_time(one) - a * self.steps[one]

    def _above_idle_w(self, clock_mhz: int, a: float, b: float) -> float:
        duration = a * clock_mhz + b
        return self.energy_ratio(clock_mhz) * clock_mhz / duration if duration > 0 else inf

    def _highest(self, a: float, b: float) -> int:
        """The last step at which the curve is within the limit; -1 where there is none."""
        within, lowest = self.limit_w - self.idle_w, max(self.fits, 0)  # with a negative `b` it is no curve below what fits
        return bisect_right(self.steps, within, lo=lowest, hi=self.over, key=lambda clock: self._above_idle_w(clock, a, b)) - 1
