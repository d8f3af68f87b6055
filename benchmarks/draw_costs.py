"""Draw what simulating costs: k-tile events a second against the L2 hit rate, processor seconds against K and batch.

Run from the root of the repository: `python -m benchmarks.draw_costs`; writes docs/images/simulation_cost.svg and .csv.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib as mpl

from benchmarks.measure import ROOT, ampere_spec, cpu_seconds
from benchmarks.test_engines import events_per_second, plan_of, reuse, with_l2
from nmsim.arch.spec import GpuSpec
from nmsim.run.choice import RunOptions, run_at

IMAGE = ROOT / "docs" / "images" / "simulation_cost.svg"
CAPACITIES_BYTES = [1 << 30, *(1 << bits for bits in range(24, 17, -1)), 1]
K_SIZES = [1 << bits for bits in range(8, 17)]
TOKENS = [1 << bits for bits in range(9, 18)]
INPUTS, OUTPUTS = 1024, 4096
BLUE, ORANGE, GREY = "#2f6fab", "#c8641e", "#8a8a8a"


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
        yield Point("cpu seconds by k", k, _seconds(spec, 2048, 2048, k))
    for tokens in TOKENS:
        yield Point("cpu seconds by tokens", tokens, _seconds(spec, tokens, OUTPUTS, INPUTS))


def _seconds(spec: GpuSpec, m: int, n: int, k: int) -> float:
    plan = plan_of(spec, m, n, k)
    return cpu_seconds(lambda: run_at(spec, plan, spec.clock.boost_mhz, RunOptions()), rounds=3)


def draw(measured: list[Point]) -> None:
    """Two panels as one SVG, the same bytes for the same numbers."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {"svg.hashsalt": "nmsim", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.3), layout="constrained")
    rates = [point for point in measured if point.panel.startswith("events")]
    left.plot([point.x for point in rates], [point.y / 1e6 for point in rates], "o-", color=BLUE, ms=4)
    left.set(xlabel="L2 hit rate of block look-ups", ylabel="million k-tile events a second", yscale="log")
    left.set_title("4096³, L2 capacity varied")
    for panel, label, colour in (
        ("cpu seconds by k", "K, with m = n = 2048", BLUE),
        ("cpu seconds by tokens", f"tokens, with {INPUTS} inputs, {OUTPUTS} outputs", ORANGE),
    ):
        line = [point for point in measured if point.panel == panel]
        right.loglog([point.x for point in line], [point.y for point in line], "o-", color=colour, ms=4, label=label)
    last = [point for point in measured if point.panel == "cpu seconds by tokens"][-1]
    right.loglog([last.x / 64, last.x], [last.y / 64, last.y], ":", color=GREY, label="proportional")
    right.set(xlabel="K, or tokens in the batch", ylabel="processor seconds a kernel", title="dense FP16, memory modelled")
    right.legend(frameon=False)
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
