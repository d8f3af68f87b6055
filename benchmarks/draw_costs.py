"""Draw what simulating costs: k-tile events a second against the L2 hit rate, processor seconds against K and against the batch,
with and without leaping over steady states.

Run from the root of the repository: `python -m benchmarks.draw_costs`; writes docs/images/simulation_cost.svg and .csv.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import matplotlib as mpl

from benchmarks.measure import ROOT, ampere_spec, cpu_seconds
from benchmarks.test_engines import events_per_second, plan_of, reuse, with_l2
from nmsim.arch.spec import GpuSpec
from nmsim.hw.chip_compiled import CompiledChip
from nmsim.hw.timing import ChipTiming, chip_timing
from nmsim.mapping.plan import KernelPlan
from nmsim.run.mainloops import mainloop_timing

IMAGE = ROOT / "docs" / "images" / "simulation_cost.svg"
CAPACITIES_BYTES = [1 << 30, *(1 << bits for bits in range(24, 17, -1)), 1]
K_SIZES = [1 << bits for bits in range(9, 17)]
RATE_TICKS = (0.5, 1, 2, 5, 10)
TOKENS = [1 << bits for bits in range(9, 18)]
INPUTS, OUTPUTS = 1024, 4096
WHOLE_L2_BYTES = 2 << 30
"""An L2 that holds all operands of the largest kernel drawn, twice."""
MEMORIES = {"cold, from DRAM": "#c8641e", "all in the L2": "#2f6fab", "memory that answers at once": "#3a8a4d"}
"""What the operands come from, each with its colour."""
BLUE = "#2f6fab"


class Point(NamedTuple):
    """One dot of one panel."""

    panel: str
    x: float
    y: float


def points(spec: GpuSpec) -> Iterator[Point]:
    """Measure every dot."""
    plan = reuse(spec)
    for capacity_bytes in CAPACITIES_BYTES:
        rate, outcome = events_per_second(spec, with_l2(spec, capacity_bytes), plan)
        yield Point("events per second by hit rate", 1 - outcome.block_misses / outcome.block_lookups, rate)
    for k in K_SIZES:
        yield from _costs(spec, "k", k, plan_of(spec, 2048, 2048, k))
    for tokens in TOKENS:
        yield from _costs(spec, "tokens", tokens, plan_of(spec, tokens, OUTPUTS, INPUTS))


def _costs(spec: GpuSpec, axis: str, x: int, plan: KernelPlan) -> Iterator[Point]:
    """Processor seconds of one kernel by where its operands come from, with and without leaping."""
    cold = chip_timing(spec, spec.clock.boost_mhz)
    timings = dict(zip(MEMORIES, (cold, with_l2(spec, WHOLE_L2_BYTES), replace(cold, ideal_memory=1)), strict=True))
    for memory, timing in timings.items():
        for skip, name in ((True, "with leaps"), (False, "without leaps")):
            yield Point(
                f"cpu seconds by {axis}, {memory}, {name}", x, _seconds(spec, timing, plan, warm=memory == "all in the L2", skip=skip)
            )


def _seconds(spec: GpuSpec, timing: ChipTiming, plan: KernelPlan, *, warm: bool, skip: bool) -> float:
    """Of one run; a warm one starts from what the run before left."""
    mainloop = mainloop_timing(spec, plan.mainloop, plan.occupancy).ticks()
    chip = CompiledChip(timing, plan, mainloop, skip=skip)
    chip.run()
    if warm:
        return cpu_seconds(chip.run, rounds=3)
    return cpu_seconds(lambda: CompiledChip(timing, plan, mainloop, skip=skip).run(), rounds=3)


def draw(measured: list[Point]) -> None:
    """Three panels as one SVG, the same bytes for the same numbers."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {"svg.hashsalt": "nmsim", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, (left, *right) = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
    rates = [point for point in measured if point.panel.startswith("events")]
    left.plot([point.x for point in rates], [point.y / 1e6 for point in rates], "o-", color=BLUE, ms=4)
    left.set(xlabel="L2 hit rate of block look-ups", ylabel="million k-tile events a second", yscale="log")
    left.set_title("4096³, L2 capacity varied")
    left.set_yticks(RATE_TICKS, [f"{rate:g}" for rate in RATE_TICKS])
    left.minorticks_off()
    for axes, axis, label, title in (
        (right[0], "k", "K in elements", "m = n = 2048, K varied"),
        (right[1], "tokens", "tokens in a batch", f"{INPUTS} to {OUTPUTS} features, batch varied"),
    ):
        for memory, colour in MEMORIES.items():
            for name, style in (("without leaps", "s:"), ("with leaps", "o-")):
                line = [point for point in measured if point.panel == f"cpu seconds by {axis}, {memory}, {name}"]
                axes.loglog(
                    [point.x for point in line], [point.y for point in line], style, color=colour, ms=3.5, label=f"{memory}, {name}"
                )
        axes.set(xlabel=label, ylabel="processor seconds a kernel", title=title)
        axes.set_ylim(1e-4, 2)
    right[0].legend(frameon=False, fontsize=7)
    figure.savefig(IMAGE, metadata={"Date": None})


def main() -> None:
    """Measure, keep the numbers, draw."""
    measured = list(points(ampere_spec()))
    with IMAGE.with_suffix(".csv").open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows((point.panel, f"{point.x:.6g}", f"{point.y:.4g}") for point in measured)
    draw(measured)


if __name__ == "__main__":
    main()
