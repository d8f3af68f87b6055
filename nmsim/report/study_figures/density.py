"""What a sparser pattern buys: speed-up over dense against density, beside the ideal 1/density."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nmsim.report.labels import clip, density_text, times
from nmsim.report.study import Study, differing_words
from nmsim.report.style import INK, QUIET, RULE, SERIES_COLOURS, SERIES_MARKERS, new_figure

MAX_NAMED = 5
"""Series with a colour and a name; of more, the fastest, the slowest and those between stand out from the others in grey."""
SERIES = ["machine", "workload", "recipe", "batch", "dtype", "l2"]
PANELS = {"sparse_speedup": "products that run the pattern", "step_speedup": "whole training step"}
COLUMNS = ["series", *SERIES, "pattern", "native", "density", "legality", *PANELS]


def data(study: Study) -> pd.DataFrame:
    """A row a sparse point: its density and its speed-up, of the GEMMs that run the pattern (`native`: as which) and of the whole step.

    The former is missing where no GEMM ran sparse. Empty where nothing ran sparse beside a dense baseline.
    """
    traced = study.traced
    traced = traced[(traced["density"] < 1) & traced["speedup_vs_dense"].notna()]
    if traced.empty:
        return pd.DataFrame(columns=COLUMNS)
    found = traced.merge(sparse_speedups(study), on="point_key", how="left")
    found = found.assign(step_speedup=found["speedup_vs_dense"], series=differing_words(found, also_pattern=False))
    found = found.sort_values("density", ascending=False, kind="stable")
    order = {name: place for place, name in enumerate(dict.fromkeys(traced["point_key"]))}
    first_seen = found.groupby("series")["point_key"].agg(lambda keys: min(order[key] for key in keys))
    return found.sort_values("series", key=lambda names: names.map(first_seen), kind="stable")[COLUMNS].reset_index(drop=True)


def sparse_speedups(study: Study) -> pd.DataFrame:
    """`sparse_speedup` of each point: dense time over traced time, of the GEMMs that run the point's pattern; and `native`, as which."""
    native = study.products.drop_duplicates("point_key").set_index("point_key")["native"]
    times_us = study.products.pivot_table(index="point_key", columns="scheme", values="time_us", aggfunc="sum", sort=False)
    both = times_us.reindex(columns=["dense", "traced"])
    return (both["dense"] / both["traced"]).rename("sparse_speedup").reset_index().assign(native=lambda one: one["point_key"].map(native))


def draw(frame: pd.DataFrame) -> Figure:
    """Two panels on the same log-log axes, a line a series, and the ideal line."""
    named = _named(frame)
    figure = new_figure(3.3 + 0.16 * ((len(named) + 1) // 2))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (column, title) in zip(panels, PANELS.items(), strict=True):
        _panel(axes, frame, column, named)
        axes.set_title(title)
        axes.set_xlabel("density N/M (share of weights kept)")
    panels[0].set_ylabel("speed-up over dense (times)")
    handles = [
        Line2D([], [], color=SERIES_COLOURS[place], marker=SERIES_MARKERS[place], markersize=4, label=clip(name, 60))
        for place, name in enumerate(named)
    ]
    if frame["series"].nunique() > len(named):
        handles.append(Line2D([], [], color=RULE, label=f"{frame['series'].nunique() - len(named)} others"))
    handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 3)), label="ideal: 1/density"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _named(frame: pd.DataFrame) -> list[str]:
    """Series in the order of the sweep; of too many, the first, the fastest, the slowest and some between at their sparsest."""
    names = list(dict.fromkeys(frame["series"]))
    if len(names) <= MAX_NAMED:
        return names
    sparsest = frame.sort_values("density", kind="stable").drop_duplicates("series").sort_values("step_speedup", ascending=False)
    ranked = [str(name) for name in sparsest["series"]]
    middle = ranked[len(ranked) // 2]
    chosen = {names[0], ranked[0], ranked[1], middle, ranked[-1]}
    return [name for name in ranked if name in chosen]


def _panel(axes: Axes, frame: pd.DataFrame, column: str, named: list[str]) -> None:
    densities = sorted(set(frame["density"]))
    axes.set(xscale="log", yscale="log", xlim=(1.15, densities[0] / 1.3))
    axes.plot([1, densities[0]], [1, 1 / densities[0]], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.axhline(1, color=INK, linewidth=0.9, zorder=1)
    series = {str(name): part[part[column].notna()] for name, part in frame.groupby("series", sort=False)}
    for name, part in series.items():
        if name not in named:
            axes.plot(part["density"], part[column], color=RULE, linewidth=0.6, marker=".", markersize=2, zorder=1.5)
    for place, name in reversed(list(enumerate(named))):
        part = series[name]
        axes.plot(part["density"], part[column], color=SERIES_COLOURS[place], marker=SERIES_MARKERS[place], markersize=4, zorder=3)
    highest = frame[frame[column].notna()].nlargest(1, column).to_dict("records")
    for best in highest:
        peak = (best["density"], best[column])
        axes.annotate(times(peak[1]), peak, (0, 6), textcoords="offset points", ha="center", fontsize=7, color=QUIET)
    axes.grid(visible=True, axis="both")
    axes.xaxis.set_major_locator(FixedLocator([1.0, *_apart(densities)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: density_text(value)))
    values = frame[list(PANELS)].to_numpy()
    least = min(1.0, float(pd.Series(values.ravel()).min()))
    axes.set_ylim(min(0.7, least / 1.2), 1.5 / densities[0])
    axes.yaxis.set_major_locator(FixedLocator([value for value in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if least / 1.3 <= value]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))


def _apart(densities: list[float]) -> list[float]:
    """Densities far enough apart for their names."""
    kept: list[float] = []
    for density in sorted(densities, reverse=True):
        if not kept or kept[-1] / density > 1.35:
            kept.append(density)
    return [density for density in kept if density < 0.9]
