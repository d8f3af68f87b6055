"""How near each GEMM comes to the machine's roofs: dense and N:M ceilings, a slope for shared memory, L2 and DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, degrees, isnan, log10
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nmsim.report.kernels import alike_kernels, kernel_frame, schemes_of
from nmsim.report.labels import phase_name, scheme_name, shorten, si
from nmsim.report.style import INK, PHASE_COLOURS, QUIET, end_label, new_figure
from nmsim.result.rows import SimulationResult
from nmsim.workload.gemm import PHASES

MAX_KERNELS = 40
"""Points a scheme, slowest first."""
LEAST_SHARE = 0.005
"""Kernels that take less of their scheme's GEMM time are left out: tiny ones would stretch both axes by decades."""
MAX_NUMBERED = 6
MAX_ACROSS = 3
ALONG: dict[str, Any] = {
    "rotation_mode": "anchor",
    "fontsize": 6.5,
    "color": QUIET,
    "ha": "left",
    "transform_rotates_text": True,
}
"""Text that runs along a slope, from its foot on, below all points."""
INTENSITIES = {"DRAM": "dram_flop_per_byte", "L2": "l2_flop_per_byte", "shared memory": "shared_memory_flop_per_byte"}
"""Level of memory -> its column, from the level of fewest bytes on."""
LEVEL_MARKERS = {"DRAM": "o", "L2": "o", "shared memory": "d"}
LEVEL_AREAS = {"DRAM": 1.0, "L2": 1.0, "shared memory": 0.7}
COLUMNS = [
    "kind",
    "scheme",
    "label",
    "phase",
    "kernels",
    "ran_sparse",
    "time_us",
    *INTENSITIES.values(),
    "dense_equivalent_tflops",
    "gb_per_s",
]


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a kernel (`kind` kernel), a ceiling in TFLOP/s (`ceiling`) and a slope in GB/s (`slope`).

    Throughput is dense-equivalent, over the cycles of the kernel, launches excluded. Kernels of no MACs are left out; the frame
    is empty where none is left.
    """
    frame = kernel_frame(result)
    gemms = frame[(frame["dense_equivalent_macs"] > 0) & (frame["cycles"] > 0)]
    if gemms.empty:
        return pd.DataFrame(columns=COLUMNS)
    kernels = pd.concat([_points(gemms[gemms["scheme"] == scheme]).head(MAX_KERNELS) for scheme in schemes_of(result)], ignore_index=True)
    roofs = result.ceilings
    ceilings = [{"kind": "ceiling", "label": "dense", "dense_equivalent_tflops": roofs.dense_tflops}]
    ceilings += [{"kind": "ceiling", "label": label, "dense_equivalent_tflops": tflops} for label, tflops in roofs.nm_tflops.items()]
    slopes = [
        {"kind": "slope", "label": "shared memory", "gb_per_s": roofs.shared_memory_gb_per_s},
        {"kind": "slope", "label": "L2", "gb_per_s": roofs.l2_gb_per_s},
        {"kind": "slope", "label": "DRAM", "gb_per_s": roofs.dram_gb_per_s},
    ]
    slopes = [slope for slope in slopes if slope["gb_per_s"]]
    if not roofs.shared_memory_gb_per_s:
        kernels[INTENSITIES["shared memory"]] = float("nan")
    return pd.concat([kernels, pd.DataFrame([*ceilings, *slopes])], ignore_index=True).reindex(columns=COLUMNS)


def _points(gemms: pd.DataFrame) -> pd.DataFrame:
    """Equal kernels as one point: their intensities and their common throughput."""
    alike = alike_kernels(gemms)
    alike = alike[alike["time_us"] >= LEAST_SHARE * alike["time_us"].sum()]
    flop = 2.0 * alike["dense_equivalent_macs"]
    moved = {
        "DRAM": alike["dram_read_bytes"] + alike["dram_write_bytes"],
        "L2": alike["l2_read_bytes"] + alike["l2_write_bytes"],
        "shared memory": alike["shared_memory_bytes"],
    }
    intensities = {column: (flop / moved[level]).where(moved[level] > 0) for level, column in INTENSITIES.items()}
    return alike.assign(kind="kernel", dense_equivalent_tflops=flop / alike["running_us"] / 1e6, **intensities)


def draw(frame: pd.DataFrame) -> Figure:
    """A log-log panel a scheme on the same axes, the slowest kernels numbered alike in all, their names below."""
    kernels = frame[frame["kind"] == "kernel"]
    schemes = list(dict.fromkeys(kernels["scheme"]))
    numbered = _slowest(kernels)
    across = min(len(schemes), MAX_ACROSS)
    down = -(-len(schemes) // across)
    key_height = 0.14 * -(-len(numbered) // 2) + 0.1
    figure = new_figure(0.5 + 2.7 * down + key_height)
    grid = figure.add_gridspec(down + 1, across, height_ratios=[*[2.5] * down, key_height])
    first: Axes | None = None
    for place, scheme in enumerate(schemes):
        axes = first = figure.add_subplot(grid[divmod(place, across)], sharex=first, sharey=first)
        _roofs(axes, frame)
        _points_of(axes, kernels[kernels["scheme"] == scheme], numbered, float(kernels["time_us"].max()))
        axes.set_title(scheme_name(str(scheme)))
        is_lowest = place + across >= len(schemes)
        axes.tick_params(labelleft=place % across == 0, labelbottom=is_lowest)
        if place % across == 0:
            axes.set_ylabel("dense-equivalent TFLOP/s")
        if is_lowest and place % across == (across - 1) // 2:
            axes.set_xlabel("arithmetic intensity (dense-equivalent FLOP per byte)")
    _key(figure.add_subplot(grid[down, :]), numbered)
    phases = [phase for phase in PHASES if phase in set(kernels["phase"])]
    levels = [level for level, column in INTENSITIES.items() if kernels[column].notna().any()]
    figure.legend(handles=_legend(phases, levels), loc="outside upper left", ncols=6)
    return figure


def _slowest(kernels: pd.DataFrame) -> list[tuple[str, str]]:
    """(label, phase) of the kernels that take longest under any scheme; their places in the list are their numbers."""
    longest = kernels.groupby(["label", "phase"], sort=False)["time_us"].max().nlargest(MAX_NUMBERED)
    return [(str(label), str(phase)) for label, phase in longest.index]


def _key(axes: Axes, numbered: list[tuple[str, str]]) -> None:
    """What the numbers stand for, in two columns."""
    axes.set_axis_off()
    rows = -(-len(numbered) // 2)
    for place, (label, phase) in enumerate(numbered):
        column, row = divmod(place, rows)
        text = f"{shorten(label, 40)}, {phase_name(phase)}"
        y = 1 - (row + 0.5) / rows
        axes.text(0.5 * column, y, f"{place + 1}", fontsize=7, fontweight="bold", color=INK, va="center", transform=axes.transAxes)
        axes.text(0.5 * column + 0.02, y, text, fontsize=7, color=INK, va="center", transform=axes.transAxes)


def _limits(frame: pd.DataFrame) -> tuple[float, float, float, float]:
    """Least and greatest intensity, least and greatest throughput shown: all points, all ridges, and never less than 1.7 decades."""
    intensities = pd.concat([frame[column] for column in INTENSITIES.values()]).dropna()
    throughputs, gb_per_s = frame["dense_equivalent_tflops"].dropna(), frame["gb_per_s"].dropna()
    least_y, most_y = min(throughputs.min() / 6, throughputs.max() / 50), throughputs.max() * 2
    enters = 1000 * least_y / gb_per_s.max()
    leaves = 1000 * throughputs.max() / gb_per_s.min()
    return min(intensities.min(), enters) / 1.5, max(intensities.max(), leaves) * 6, least_y, most_y


def _roofs(axes: Axes, frame: pd.DataFrame) -> None:
    """Slopes up to the highest ceiling, ceilings from the steepest slope on.

    The names of ceilings stand left of the steepest slope, where no point can lie; those of slopes along them, the lowest one's on its
    right, so that none comes between two that are close.
    """
    least_x, most_x, least_y, most_y = _limits(frame)
    axes.set(xscale="log", yscale="log", xlim=(least_x, most_x), ylim=(least_y, most_y))
    axes.grid(visible=True, axis="both")
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_locator(LogLocator(base=10))
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        scale.set_minor_formatter(NullFormatter())
    slopes, ceilings = frame[frame["kind"] == "slope"], frame[frame["kind"] == "ceiling"]
    steepest = slopes["gb_per_s"].max() / 1000
    top = ceilings["dense_equivalent_tflops"].max()
    for label, gb_per_s in zip(slopes["label"], slopes["gb_per_s"], strict=True):
        is_lowest = label == slopes["label"].iloc[-1]
        slope = gb_per_s / 1000
        axes.plot([least_x, top / slope], [least_x * slope, top], color=QUIET, linewidth=0.9)
        foot = max(least_x, least_y / slope) * 1.05
        side, clear = ("top", 0.94) if is_lowest else ("bottom", 1.06)
        name = f"{label.removesuffix(' memory')} {si(gb_per_s * 1e9, 'B/s')}"
        _halo(axes.text(foot, foot * slope * clear, name, rotation=degrees(atan(slope)), va=side, **ALONG))
    alike = ceilings.groupby("dense_equivalent_tflops", sort=False)["label"].agg(", ".join)
    for tflops, label in zip(alike.index, alike, strict=True):
        ridge = tflops / steepest
        axes.plot([ridge, most_x], [tflops, tflops], color=INK, linewidth=1.1)
        _halo(axes.text(ridge / 1.15, tflops, f"{label} {tflops:.0f}", ha="right", va="center", fontsize=6.5, color=INK))


def _points_of(axes: Axes, kernels: pd.DataFrame, numbered: list[tuple[str, str]], longest_us: float) -> None:
    """The points of each kernel, joined, the slowest below; numbers of points that fall together are written together."""
    slowest_first = kernels.sort_values("time_us", ascending=False, kind="stable")
    colours = [PHASE_COLOURS[phase] for phase in slowest_first["phase"]]
    areas = 10 + 60 * slowest_first["time_us"] / longest_us
    tflops, levels = slowest_first["dense_equivalent_tflops"], slowest_first[list(INTENSITIES.values())]
    axes.hlines(tflops, levels.min(axis=1), levels.max(axis=1), colors=colours, linewidth=0.5, alpha=0.6)
    look: dict[str, Any] = {"edgecolors": colours, "linewidth": 0.8, "alpha": 0.85, "zorder": 3}
    for level, column in reversed(INTENSITIES.items()):
        faces: Any = colours if level == "DRAM" else "white"
        axes.scatter(slowest_first[column], tflops, s=areas * LEVEL_AREAS[level], marker=LEVEL_MARKERS[level], facecolors=faces, **look)
    placed: list[tuple[float, float, set[int]]] = []
    names = zip(slowest_first["label"], slowest_first["phase"], strict=True)
    for name, intensities, rate in zip(names, levels.itertuples(index=False, name=None), tflops, strict=True):
        known = [intensity for intensity in intensities if not isnan(intensity)]
        if known and name in numbered:
            _place(placed, log10(max(known)), log10(rate), numbered.index(name) + 1)
    for x, y, numbers in placed:
        end_label(axes, 10**x, 10**y, _ranges(numbers), weight="bold", gap_points=6)


def _place(placed: list[tuple[float, float, set[int]]], x: float, y: float, number: int) -> None:
    """Add a number at decades (x, y), or to a label too near to be told apart from."""
    for place, (other_x, other_y, numbers) in enumerate(placed):
        if abs(x - other_x) < 0.5 and abs(y - other_y) < 0.13:
            placed[place] = (max(x, other_x), other_y, numbers | {number})
            return
    placed.append((x, y, {number}))


def _ranges(numbers: set[int]) -> str:
    """`{1, 2, 4, 5, 6}` -> `1, 2, 4-6`, with a proper dash."""
    firsts = [number for number in sorted(numbers) if number - 1 not in numbers]
    lasts = [number for number in sorted(numbers) if number + 1 not in numbers]
    return ", ".join(
        f"{first}{', ' if last == first + 1 else '–'}{last}" if first < last else f"{first}"
        for first, last in zip(firsts, lasts, strict=True)
    )


def _halo(text: Text) -> None:
    """A white outline over the lines and under the points, so that neither hides the other."""
    text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    text.set_zorder(2.5)


def _legend(phases: Sequence[str], levels: Sequence[str]) -> list[Line2D]:
    def dot(colour: str, face: str, label: str, marker: str = "o") -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, label=label)

    names = [dot(PHASE_COLOURS[phase], PHASE_COLOURS[phase], phase_name(phase)) for phase in phases]
    faces = {level: QUIET if level == "DRAM" else "white" for level in levels}
    return [*names, *(dot(QUIET, faces[level], f"{level} bytes", LEVEL_MARKERS[level]) for level in levels)]
