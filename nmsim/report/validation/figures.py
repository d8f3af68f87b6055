"""The figures of a validation: simulated against published, curves over the working set, 2:4 speed-up over M."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from nmsim.report.style import INK, QUIET, RULE, SERIES_COLOURS, figure_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
DENSE, SPARSE = SERIES_COLOURS[:2]
BAND = 0.1
"""Relative width of the band that a reader looks for."""
MEGABYTE_KB = 1024


def draw_figures(validation: Mapping[str, Any], folder: Path, *, png: bool = False) -> list[Path]:
    """Draw each figure whose suites were run; returns the files written."""
    suites = {suite["suite"]: suite for suite in validation["suites"]}
    written: list[Path] = []
    for name, (needed, draw) in FIGURES.items():
        if needed in suites and (name != "speedup_over_m" or suites[needed]["series"]):  # a user's own rows have no such curve
            with figure_style():
                written += save_figure(draw(suites[needed]), folder / name, png=png)
    return written


def scatter(suite: Mapping[str, Any]) -> Figure:
    """Simulated against published time of each GEMM, and the error over the published time."""
    figure = new_figure(3.6)
    whole, errors = figure.subplots(1, 2)
    times = [row for row in suite["rows"] if row["unit"] == "us"]
    for kind, colour, marker in (("dense", DENSE, "s"), ("2:4", SPARSE, "o")):
        for fitted in (False, True):
            rows = [row for row in times if row["quantity"].startswith(kind) and (row["standing"] == "fitted") == fitted]
            label = f"{kind}, fitted rows" if fitted else kind
            look: dict[str, Any] = {"s": 18, "marker": marker, "edgecolors": colour, "linewidths": 0.9, "zorder": 3, "label": label}
            look["facecolors"] = "white" if fitted else colour
            whole.scatter([row["published"] for row in rows], [row["simulated"] for row in rows], **look)
            errors.scatter([row["published"] for row in rows], [row["error_percent"] for row in rows], **look)
    ends = [0.7 * min(row["published"] for row in times), 1.4 * max(row["published"] for row in times)]
    whole.fill_between(ends, [(1 - BAND) * end for end in ends], [(1 + BAND) * end for end in ends], color=RULE, alpha=0.35, linewidth=0)
    whole.plot(ends, ends, color=RULE, linewidth=0.8)
    whole.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured time, µs", ylabel="simulated time, µs")
    whole.set_title("Time, with the ±10 % band")
    errors.axhspan(-100 * BAND, 100 * BAND, color=RULE, alpha=0.35, linewidth=0)
    errors.axhline(0, color=RULE, linewidth=0.8)
    errors.set(xscale="log", xlim=ends, xlabel="measured time, µs", ylabel="error, %")
    errors.set_title("Error of the simulated time")
    for axes in (whole, errors):
        axes.grid(visible=True, axis="both")
        _plain_numbers(axes, "x")
    _plain_numbers(whole, "y")
    figure.legend(*whole.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def memory_curves(suite: Mapping[str, Any]) -> Figure:
    """Latency of a pointer chase and bandwidth of a stream over the working set, measured and simulated."""
    figure = new_figure(3.2)
    for axes, quantity, label, title in zip(
        figure.subplots(1, 2),
        ("latency", "bandwidth"),
        ("cycles a dependent load", "GB/s, all SMs"),
        ("Pointer chase", "Stream of loads"),
        strict=True,
    ):
        rows = [row for row in suite["rows"] if "curve" in row["tags"] and row["quantity"] == quantity]
        sizes = [float(row["row"].rpartition("/")[2].removesuffix("kB")) / MEGABYTE_KB for row in rows]
        axes.plot(
            sizes, [row["published"] for row in rows], color=INK, marker="o", markersize=3, linewidth=0, label="measured (gpu-benches)"
        )
        axes.plot(sizes, [row["simulated"] for row in rows], color=SPARSE, label="simulated")
        axes.set(xscale="log", xlabel="working set, MiB", ylabel=label, ylim=(0, None))
        axes.set_title(title)
        axes.grid(visible=True, axis="both")
        _plain_numbers(axes, "x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def speedup_over_m(suite: Mapping[str, Any]) -> Figure:
    """2:4 speed-up and both rates over M at N = K = 3584: measured where it was, simulated in between, steps and all."""
    figure = new_figure(3.4)
    rates, speedup = figure.subplots(1, 2)
    measured: dict[str, list[tuple[int, float]]] = {}
    simulated: dict[str, list[tuple[int, float]]] = {}
    for row in suite["rows"]:
        if "qwen" in row["tags"]:
            m = int(row["row"].rpartition("m")[2])
            measured.setdefault(row["quantity"], []).append((m, row["published"]))
            simulated.setdefault(row["quantity"], []).append((m, row["simulated"]))
    for series in suite["series"]:
        simulated[series["quantity"]] = sorted({*simulated[series["quantity"]], *map(tuple, series["points"])})
    for kind, colour in (("dense time", DENSE), ("2:4 time", SPARSE)):
        name = kind.split()[0]
        rates.plot(*_rates(simulated[kind]), color=colour, label=f"{name}, simulated")
        rates.plot(*_rates(measured[kind]), color=colour, marker="o", markersize=4, linewidth=0, label=f"{name}, measured")
    rates.set(xscale="log", xlabel="M (tokens)", ylabel="TFLOP/s, dense-equivalent", ylim=(0, None))
    rates.set_title("Rate: a step down begins another wave of CTAs")
    rates.legend(loc="lower right")
    speedup.axhline(1, color=RULE, linewidth=0.8)
    speedup.plot(*zip(*simulated["speed-up"], strict=True), color=QUIET, label="simulated")
    speedup.plot(*zip(*measured["speed-up"], strict=True), color=INK, marker="o", markersize=4, linewidth=0, label="measured")
    speedup.set(xscale="log", xlabel="M (tokens)", ylabel="time of dense / time of 2:4")
    speedup.set_title("2:4 speed-up over dense")
    speedup.legend(loc="lower right")
    for axes in (rates, speedup):
        axes.grid(visible=True, axis="both")
        _plain_numbers(axes, "x")
    return figure


def _rates(points: Iterable[tuple[int, float]]) -> tuple[list[int], list[float]]:
    pairs = sorted(points)
    return [m for m, _ in pairs], [2 * m * 3584 * 3584 / time_us / 1e6 for m, time_us in pairs]


def _plain_numbers(axes: Axes, which: str) -> None:
    """1,000 instead of 10^3 on a logarithmic axis."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


FIGURES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "scatter": ("gemm", scatter),
    "memory": ("memory", memory_curves),
    "speedup_over_m": ("gemm", speedup_over_m),
}
"""File name -> (suite it needs, function that draws it)."""
