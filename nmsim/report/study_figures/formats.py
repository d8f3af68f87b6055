"""Sparse formats against each other, over how sparse they are: speed of the pruned products and of the step, and accuracy."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nmsim.report.labels import scheme_name
from nmsim.report.study import Study
from nmsim.report.style import INK, QUIET, new_figure, scheme_colour, scheme_marker

MAX_RECIPES = 3
"""Recipes of N:M that are drawn: a line each."""
PANELS = {"products_speedup": "products of the pruned layers", "step_speedup": "whole training step"}
ACCURACY = "held_out_accuracy"
LINES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
MARKERS = ("o", "^", "d")
"""Of the first, second and third recipe of N:M."""
LEAST_SPAN = 4.0
"""Points of accuracy that the axis spans at least: one point is what another seed changes."""
PLACE = ["machine", "workload", "batch", "dtype", "l2"]
DENSE = "dense"
COLUMNS = ["series", "scheme", "machine", "workload", "recipe", "pattern", "density", "ran_sparse", *PANELS, ACCURACY]


def data(study: Study) -> pd.DataFrame:
    """A row a format x density on the first machine, for the workload of most densities: what was traced, by recipe, then baselines.

    Of patterns of one density the first counts; a baseline comes from the first recipe that has it at this density. A row of a
    training carries its accuracy; what was trained in tiles or dense is a row of its own, without speed-ups where the baseline
    has them. Empty for fewer than two formats.
    """
    points = _points(study)
    if points.empty:
        return pd.DataFrame(columns=COLUMNS)
    sparse = points[points["density"] < 1]
    traced = sparse[(sparse["scheme"] == "traced") & ~sparse["in_tiles"]]
    recipes = list(traced.groupby("recipe", sort=False)["density"].nunique().sort_values(ascending=False, kind="stable").index)
    traced = traced[traced["recipe"].isin(recipes[:MAX_RECIPES])].drop_duplicates(["recipe", "density"])
    baselines = sparse[sparse["scheme"] != "traced"].drop_duplicates(["scheme", "density"])
    tiles = sparse[(sparse["scheme"] == "traced") & sparse["in_tiles"]]
    tiles = tiles.assign(scheme=tiles["recipe"].map({"tew": "tew"}).fillna("tile_wise"))
    known = set(zip(baselines["scheme"], baselines["density"], strict=True))
    again = pd.Series([pair in known for pair in zip(tiles["scheme"], tiles["density"], strict=True)], index=tiles.index, dtype=bool)
    tiles.loc[again, list(PANELS)] = float("nan")
    tiles = tiles[~again | tiles[ACCURACY].notna()]
    dense = points[(points["scheme"] == "traced") & (points["density"] == 1) & points[ACCURACY].notna()].head(1)
    dense = dense.assign(scheme=DENSE, step_speedup=1.0, products_speedup=1.0, ran_sparse=True)
    found = pd.concat([traced, baselines, tiles, dense], ignore_index=True)
    found = found.assign(series=[_series(row) for row in found.to_dict("records")])
    if found.loc[found["density"] < 1, "series"].nunique() < 2:
        return pd.DataFrame(columns=COLUMNS)
    order = {name: place for place, name in enumerate(dict.fromkeys(found["series"]))}
    return found.sort_values(["series", "density"], key=_by(order), ascending=[True, False], kind="stable")[COLUMNS].reset_index(drop=True)


def _points(study: Study) -> pd.DataFrame:
    """Points x schemes but dense, of one machine and network, with `density`, `in_tiles` and both speed-ups."""
    totals = study.totals[study.totals["speedup_vs_dense"].notna() & (study.totals["scheme"] != DENSE)]
    sums = study.pruned.groupby(["point_key", "scheme"], sort=False).agg(
        time_us=("time_us", "sum"), kept=("kept", "first"), ran_sparse=("ran_sparse", "any")
    )
    if totals.empty or sums.empty:
        return totals
    dense_us = sums.xs(DENSE, level="scheme")["time_us"]
    own = totals.drop(columns="time_us").merge(sums.reset_index(), on=["point_key", "scheme"], how="left")
    own = own.assign(
        in_tiles=own["kept"].notna(),
        density=own["kept"].where(own["kept"].notna(), own["density"].where(own["scheme"] == "traced")),
        ran_sparse=own["ran_sparse"].eq(True),
        products_speedup=own["point_key"].map(dense_us) / own["time_us"],
        step_speedup=own["speedup_vs_dense"],
        **{ACCURACY: own[ACCURACY].where(own["scheme"] == "traced")},
    )
    own = own[own["density"].notna()]
    if own.empty:
        return own
    first = own[own["machine"] == own["machine"].iloc[0]]
    workload = first.groupby("workload", sort=False)["density"].nunique().idxmax()
    place = first[first["workload"] == workload].iloc[0]
    chosen: pd.DataFrame = own[(own[PLACE] == place[PLACE]).all(axis=1)]
    return chosen


def _series(row: dict[Hashable, Any]) -> str:
    return f"N:M, {row['recipe']}" if row["scheme"] == "traced" else scheme_name(str(row["scheme"]))


def _by(order: dict[str, int]) -> Any:
    """The sorting key of a column: series by their place, numbers as they are."""
    return lambda column: column.map(order) if column.name == "series" else column


def draw(frame: pd.DataFrame) -> Figure:
    """Speed-ups on two log-log panels with the ideal line, and beside them the accuracies where any were trained."""
    has_accuracy = bool(frame[ACCURACY].notna().any())
    series = [name for name in dict.fromkeys(frame["series"]) if name != DENSE]
    looks = _looks(frame, series)
    figure = new_figure(3.15 + 0.16 * ((len(series) + 5) // 4))
    panels = figure.subplots(1, 3 if has_accuracy else 2)
    sparsest = float(frame["density"].min())
    for axes, (column, title) in zip(panels, PANELS.items(), strict=False):
        axes.axhline(1, color=INK, linewidth=0.9, zorder=1)
        axes.plot([1, sparsest], [1, 1 / sparsest], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        _lines(axes, frame, column, looks)
        _ratios(axes, frame)
        axes.set_title(title)
    if has_accuracy:
        _accuracies(panels[2], frame, looks)
    for axes in panels:
        _densities(axes, frame)
    panels[0].set_ylabel("speed-up over dense (times)")
    panels[1].set_xlabel("sparsity (share of weights pruned)")
    handles = [Line2D([], [], label=name, markersize=4.5, **looks[name]) for name in series]
    handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 3)), linewidth=0.9, label="ideal: 1/density"))
    if not frame["ran_sparse"].all():
        handles.append(Line2D([], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="none", label="hollow: ran dense"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _looks(frame: pd.DataFrame, series: list[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each series: those of its scheme, and a line of its own for each recipe of N:M."""
    schemes = dict(zip(frame["series"], frame["scheme"], strict=True))
    recipes = [name for name in series if schemes[name] == "traced"]
    return {
        name: {
            "color": scheme_colour(schemes[name], list(schemes.values())),
            "marker": MARKERS[recipes.index(name)] if name in recipes else scheme_marker(schemes[name], list(schemes.values())),
            "linestyle": LINES[recipes.index(name)] if name in recipes else "-",
            "linewidth": 1.2,
        }
        for name in series
    }


def _lines(axes: Axes, frame: pd.DataFrame, column: str, looks: dict[str, dict[str, Any]]) -> None:
    for name, look in looks.items():
        part = frame[(frame["series"] == name) & frame[column].notna()]
        axes.plot(part["density"], part[column], markersize=0, zorder=2, **{**look, "marker": ""})
        for row in part.to_dict("records"):
            face = look["color"] if row["ran_sparse"] else "white"
            axes.plot(row["density"], row[column], look["marker"], color=look["color"], markersize=4.5, markerfacecolor=face, zorder=3)


def _ratios(axes: Axes, frame: pd.DataFrame) -> None:
    values = pd.concat([frame[column] for column in PANELS]).dropna()
    least, most = min(float(values.min()), 0.8), max(float(values.max()), 1 / float(frame["density"].min()))
    axes.set_yscale("log")
    axes.set_ylim(least / 1.2, most * 1.2)
    axes.grid(visible=True, axis="both")
    powers = [2.0**power for power in range(-8, 8)]
    axes.yaxis.set_major_locator(FixedLocator([value for value in powers if least / 1.2 <= value <= most * 1.2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}×"))


def _densities(axes: Axes, frame: pd.DataFrame) -> None:
    """The axis of sparsity: densities on a logarithmic scale, so that each halving is as long; named by what is pruned."""
    densities = sorted(set(frame.loc[frame["density"] < 1, "density"]), reverse=True)
    axes.set_xscale("log")
    axes.set_xlim(1.15, densities[-1] / 1.3)
    apart = [density for place, density in enumerate(densities) if place == 0 or densities[place - 1] / density > 1.6]
    axes.xaxis.set_major_locator(FixedLocator([density for density in apart if density < 0.8]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _pruned(value)))


def _pruned(density: float) -> str:
    percent = 100 * (1 - density)
    return f"{percent:.1f} %" if percent % 1 > 0.05 else f"{percent:.0f} %"


def _accuracies(axes: Axes, frame: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Accuracies of what was trained, dense as a line across; below, the formats that nobody trained, in words."""
    percents = frame.assign(ran_sparse=True)
    percents[ACCURACY] *= 100
    _lines(axes, percents, ACCURACY, looks)
    trained = percents[percents[ACCURACY].notna()]
    span = max(float(trained[ACCURACY].max() - trained[ACCURACY].min()), LEAST_SPAN)
    axes.set_ylim(trained[ACCURACY].min() - 0.6 * span, trained[ACCURACY].max() + 0.25 * span)
    for percent in trained.loc[trained["series"] == DENSE, ACCURACY]:
        axes.axhline(percent, color=INK, linewidth=0.9)
        axes.annotate(f"dense {percent:.1f} %", (1.1, percent), (0, 3), textcoords="offset points", fontsize=6.5, color=INK)
    axes.grid(visible=True, axis="both")
    axes.set_title("held-out accuracy (%)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    missing = [name for name in looks if name not in set(trained["series"])]
    if missing:
        text = "not trained: " + ", ".join(missing)
        axes.annotate(_wrapped(text), (0.03, 0.03), xycoords="axes fraction", fontsize=6.5, color=QUIET, va="bottom")


def _wrapped(text: str, limit: int = 34) -> str:
    """Lines of at most `limit` characters, broken at blanks."""
    return "\n".join(textwrap.wrap(text, limit, break_on_hyphens=False))
