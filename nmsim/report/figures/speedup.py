"""Which layers gain from sparsity, and in which of their three products: in time, and (see `layer_energy`) in energy."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nmsim.report.kernels import kernel_frame
from nmsim.report.labels import common_name, numberless, phase_name, scheme_name, shorten, times
from nmsim.report.style import INK, QUIET, RULE, new_figure, scheme_colour, scheme_marker
from nmsim.result.rows import SimulationResult
from nmsim.workload.gemm import PHASES

MAX_MARKS = 48
"""Markers a panel has room for: layers x schemes."""
MAX_LEGEND_COLUMNS = 5
ALL = "all layers"


@dataclass(frozen=True)
class Quantity:
    """What is compared: a column of the kernels, the name of dense / own, and what the axis says."""

    column: str
    gain: str
    axis: str
    one: str

    @property
    def columns(self) -> list[str]:
        """Columns of the figure's frame."""
        own = [f"dense_{self.column}", self.column, f"{self.gain}_vs_dense", f"{self.gain}_vs_tile_wise"]
        return ["module", "phase", "scheme", "gemms", "ran_dense", *own]


TIME = Quantity("time_us", "speedup", "speed-up over dense (time of dense / time)", "1: as fast as dense")
COLUMNS = TIME.columns


def data(result: SimulationResult) -> pd.DataFrame:
    """The speed-ups, see `gains`."""
    return gains(result, TIME)


def draw(frame: pd.DataFrame) -> Figure:
    """The speed-ups, see `draw_gains`."""
    return draw_gains(frame, TIME)


def gains(result: SimulationResult, quantity: Quantity) -> pd.DataFrame:
    """A row a layer x phase x scheme other than dense, in network order, all layers together last.

    Where there are too many layers to draw, those of equal name (but for numbers) and shape in repeated blocks share a row,
    and of what is then still too much, those of least dense time do. Empty where dense was not simulated or nothing else was.
    A product's passes (dX zeroed before tiles add to it, what TEW restores) count with it. `ran_dense` is true where all of the
    row's GEMMs did and no such pass was needed.
    """
    kernels = kernel_frame(result)
    gemms = kernels[kernels["phase"].isin(PHASES)]
    others = set(gemms["scheme"]) - {"dense"}
    column, gain = quantity.column, quantity.gain
    if not others or "dense" not in set(gemms["scheme"]) or not gemms[column].sum():
        return pd.DataFrame(columns=quantity.columns)
    room = max(MAX_MARKS // len(others), 4)
    if gemms["module"].nunique() > room:
        gemms = gemms.assign(module=gemms["module"].map(_shared_names(gemms)))
    dense_time = gemms[gemms["scheme"] == "dense"].groupby("module")["time_us"].sum()
    is_named = gemms["module"].isin(set(dense_time.nlargest(room).index))
    rest = gemms[~is_named].assign(module=f"{len(dense_time) - room} others")
    both = pd.concat([gemms[is_named], rest, gemms.assign(module=ALL)], ignore_index=True)
    grouping = ["module", "phase", "scheme"]
    grouped = both.groupby(grouping, sort=False)
    totals = grouped[column].sum().to_frame()
    totals["gemms"] = both["kind"].eq("gemm").groupby([both[name] for name in grouping], sort=False).sum()
    totals["ran_dense"] = grouped["ran_dense"].all()
    totals = totals.reset_index()
    joined = totals[totals["scheme"] != "dense"]
    for reference in ("dense", "tile_wise"):
        theirs = totals.loc[totals["scheme"] == reference, ["module", "phase", column]].rename(columns={column: f"{reference}_{column}"})
        joined = joined.merge(theirs, on=["module", "phase"], how="inner" if reference == "dense" else "left")
        joined[f"{gain}_vs_{reference}"] = joined[f"{reference}_{column}"] / joined[column]
    return joined[quantity.columns]


def _shared_names(gemms: pd.DataFrame) -> dict[str, str]:
    """For each layer the name it shares with those of equal shapes in repeated blocks: `layer.*.query ×12`."""
    alike: dict[tuple[object, ...], list[str]] = {}
    dense = gemms[gemms["scheme"] == "dense"]
    for module, rows in dense.groupby("module", sort=False):
        shapes = tuple(rows[["phase", "m", "n", "k", "l"]].itertuples(index=False, name=None))
        alike.setdefault((numberless(str(module)), shapes), []).append(str(module))
    return {name: f"{common_name(names)} ×{len(names)}" if len(names) > 1 else name for names in alike.values() for name in names}


def draw_gains(frame: pd.DataFrame, quantity: Quantity) -> Figure:
    """A panel a phase side by side, a row a layer; a thin line leads from dense (1) to each scheme's marker."""
    modules = list(dict.fromkeys(frame["module"]))
    schemes = list(dict.fromkeys(frame["scheme"]))
    phases = [phase for phase in PHASES if phase in set(frame["phase"])]
    pitch_in = max(0.19, 0.085 * len(schemes))
    total_height = 0.115 * max(len(schemes), 2) / pitch_in
    heights = dict(zip(modules, [*range(len(modules) - 1), len(modules) - 1.3 + total_height / 2], strict=True))
    figure = new_figure(1.15 + pitch_in * (len(modules) + total_height))
    panels = figure.subplots(1, len(phases), sharex=True, sharey=True, squeeze=False)[0]
    for axes, phase in zip(panels, phases, strict=True):
        _panel(axes, frame[frame["phase"] == phase], f"{quantity.gain}_vs_dense", heights, schemes, total_height)
        axes.set_title(phase_name(phase))
    panels[0].set_yticks(list(heights.values()), [shorten(module, 40) for module in modules])
    panels[0].get_yticklabels()[-1].set_fontweight("bold")
    panels[0].set_ylim(len(modules) - 1.2 + total_height, -0.6)
    panels[0].set_xlim(0, 1.16 * max(frame[f"{quantity.gain}_vs_dense"].max(), 1.1))
    panels[len(phases) // 2].set_xlabel(quantity.axis)
    handles = _legend(schemes, quantity.one)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), MAX_LEGEND_COLUMNS))
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, gain: str, heights: dict[str, float], schemes: list[str], total_height: float) -> None:
    axes.axvline(1, color=INK, linewidth=0.9)
    axes.axhline(len(heights) - 1.4, color=RULE, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for row in frame.to_dict("records"):
        scheme, speedup, is_total = row["scheme"], row[gain], row["module"] == ALL
        colour = scheme_colour(scheme, schemes)
        spacing = (0.85 * total_height if is_total else 0.6) / max(len(schemes), 2)
        height = heights[row["module"]] + (schemes.index(scheme) - (len(schemes) - 1) / 2) * spacing
        axes.plot([1, speedup], [height, height], color=colour, linewidth=0.9, solid_capstyle="butt")
        face = "white" if row["ran_dense"] else colour
        marker = scheme_marker(scheme, schemes)
        axes.plot(speedup, height, marker, color=colour, markersize=3.6, markerfacecolor=face, markeredgewidth=0.9)
        if is_total:
            place = (max(speedup, 1), height)
            axes.annotate(times(speedup), place, (5, 0), textcoords="offset points", va="center", fontsize=6.5, color=colour)


def _legend(schemes: list[str], one: str) -> list[Line2D]:
    marks = [
        Line2D([], [], color=scheme_colour(name, schemes), marker=scheme_marker(name, schemes), markersize=4.5, label=scheme_name(name))
        for name in schemes
    ]
    hollow = Line2D([], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="none", markersize=4.5, label="hollow: ran dense")
    return [*marks, hollow, Line2D([], [], color=INK, linewidth=0.9, label=one)]
