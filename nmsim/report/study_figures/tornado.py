"""Which swept parameter matters: how far each moves the sparse step, all else unchanged."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nmsim.report.labels import shorten
from nmsim.report.study import AXES, Study, overrides_of
from nmsim.report.study_figures.density import sparse_speedups
from nmsim.report.style import INK, SERIES_COLOURS, label_beside, new_figure

MAX_ROWS = 14
METRICS = {"sparse_speedup": "speed-up of its products", "time_us": "time of the training step"}
COLUMNS = ["pattern", "density", "parameter", "value", "base", "metric", "ratio", "points"]
NOT_PARAMETERS = ("pattern", "workload")


def data(study: Study) -> pd.DataFrame:
    """A row a pattern x parameter x value x metric: the metric at that value over the metric at the parameter's first value.

    A ratio is the geometric mean over all pairs of points that differ in nothing else (`points` of them); patterns are apart.
    Empty where no parameter has two values.
    """
    traced = study.traced[study.traced["density"].notna()].merge(sparse_speedups(study), on="point_key", how="left")
    sets = [overrides_of(text) for text in traced["overrides"]]
    keys = list(dict.fromkeys(key for one in sets for key in one))
    wide = traced.assign(**{key: [one.get(key, "as is") for one in sets] for key in keys})
    axes = [*keys, *(axis for axis in AXES if axis not in NOT_PARAMETERS)]
    records = []
    for pattern, part in wide.groupby("pattern", sort=False):
        for parameter in axes:
            values = list(dict.fromkeys(part[parameter]))
            others = [*(axis for axis in axes if axis != parameter), "workload"]
            base = part[part[parameter] == values[0]]
            for value in values[1:]:
                pairs = base.merge(part[part[parameter] == value], on=others, suffixes=("_base", ""))
                for metric in METRICS:
                    ratios = (pairs[metric] / pairs[f"{metric}_base"]).dropna()
                    if len(ratios):
                        ratio = math.exp(sum(map(math.log, ratios)) / len(ratios))
                        records.append(
                            (pattern, float(part["density"].iloc[0]), parameter, str(value), str(values[0]), metric, ratio, len(ratios))
                        )
    return pd.DataFrame(records, columns=COLUMNS)


def draw(frame: pd.DataFrame) -> Figure:
    """Bars from the first value of each parameter for the sparsest pattern, what moves its products' speed-up most on top."""
    spread = frame.assign(size=frame["ratio"].map(lambda ratio: abs(math.log(ratio))))
    part = spread[spread["density"] == spread["density"].min()]
    pattern = part["pattern"].iloc[0]
    part = part[part["pattern"] == pattern]
    sizes = part.pivot_table(index="parameter", columns="metric", values="size", aggfunc="max", sort=False).fillna(0.0)
    order = sizes.sort_values([metric for metric in METRICS if metric in sizes.columns], ascending=False, kind="stable")
    parameters = [str(name) for name in order.index[:MAX_ROWS]]
    metrics = [metric for metric in METRICS if metric in set(part["metric"])]
    figure = new_figure(1.0 + 0.3 * len(parameters))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _bars(axes, part[part["metric"] == metric], parameters)
        axes.set_title(f"{METRICS[metric]}, {pattern}")
        axes.set_xlabel("change against the first value (%)")
    bases = part.drop_duplicates("parameter").set_index("parameter")["base"]
    panels[0].set_yticks(range(len(parameters)), [shorten(f"{name} (from {bases[name]})", 44) for name in parameters])
    panels[0].set_ylim(len(parameters) - 0.4, -0.6)
    handles = [Patch(facecolor=SERIES_COLOURS[0], label="increase"), Patch(facecolor=SERIES_COLOURS[1], label="decrease")]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _bars(axes: Axes, part: pd.DataFrame, parameters: list[str]) -> None:
    """From 0 to the change of each value; values on one side lie over each other, the largest below."""
    axes.axvline(0, color=INK, linewidth=0.9, zorder=4)
    axes.tick_params(axis="y", length=0)
    changes = part.assign(percent=100 * (part["ratio"] - 1))
    for row, parameter in enumerate(parameters):
        of_parameter = changes[changes["parameter"] == parameter].sort_values("size", ascending=False, kind="stable")
        for is_up in (True, False):
            side = of_parameter[(of_parameter["percent"] >= 0) == is_up]
            for percent in side["percent"]:
                colour = SERIES_COLOURS[0 if is_up else 1]
                axes.barh(row, percent, height=0.62, color=colour, alpha=0.75, edgecolor="white", linewidth=0.6)
            if len(side):
                percent, value = side["percent"].iloc[0], side["value"].iloc[0]
                label_beside(axes, percent, row, f"{shorten(value, 14)}: {percent:+.1f}".replace("-", "−"))
    reach = max(1.0, float(changes["percent"].abs().max()))
    low, high = float(changes["percent"].min()), float(changes["percent"].max())
    axes.set_xlim(min(low, 0) - (0.65 if low < 0 else 0.1) * reach, max(high, 0) + (0.65 if high > 0 else 0.1) * reach)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
