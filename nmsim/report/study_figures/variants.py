"""Which machine serves which pattern: the speed-up of every pattern on every machine of the study."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nmsim.report.labels import clip, significant
from nmsim.report.study import Study, differing_words
from nmsim.report.study_figures.density import sparse_speedups
from nmsim.report.style import INK, RULE, SERIES_COLOURS, SERIES_MARKERS, end_label, new_figure

MAX_ROWS = 26
MAX_PATTERNS = 6
COLUMNS = [
    "name",
    "machine",
    "workload",
    "recipe",
    "batch",
    "dtype",
    "l2",
    "pattern",
    "density",
    "sparse_speedup",
    "step_speedup",
    "energy_gain",
]


def data(study: Study) -> pd.DataFrame:
    """A row a sparse point, the machine as it is first, then by the speed-up of the sparsest pattern.

    Empty for fewer than two machines, workloads or recipes. Of many, the first, the best and the worst are kept.
    """
    traced = study.traced
    found = traced[(traced["density"] < 1) & traced["speedup_vs_dense"].notna()]
    if found.empty:
        return pd.DataFrame(columns=COLUMNS)
    dense = study.totals[study.totals["scheme"] == "dense"].set_index("point_key")["energy_j"]
    found = found.assign(
        name=differing_words(found, also_pattern=False),
        step_speedup=found["speedup_vs_dense"],
        energy_gain=found["point_key"].map(dense) / found["energy_j"],
    ).merge(sparse_speedups(study), on="point_key", how="left")
    kept = list(dict.fromkeys(found.sort_values("density", kind="stable")["pattern"]))[:MAX_PATTERNS]
    found = found[found["pattern"].isin(kept)].drop_duplicates(["name", "pattern"])
    sparsest = found.sort_values("density", kind="stable").drop_duplicates("name").set_index("name")["sparse_speedup"]
    first = str(found["name"].iloc[0])
    ranked = [str(name) for name in sparsest.sort_values(ascending=False, kind="stable").index if name != first]
    if not ranked:
        return pd.DataFrame(columns=COLUMNS)
    room = MAX_ROWS - 1
    half = room // 2
    chosen = [first, *(ranked if len(ranked) <= room else [*ranked[: room - half], *ranked[-half:]])]
    place = {name: number for number, name in enumerate(chosen)}
    found = found[found["name"].isin(chosen)]
    return found.sort_values(["name", "density"], key=lambda one: one.map(place) if one.name == "name" else -one, kind="stable")[
        COLUMNS
    ].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A row a machine, a marker a pattern; sparse products left, the whole step right."""
    names = list(dict.fromkeys(frame["name"]))
    patterns = list(dict.fromkeys(frame.sort_values("density", ascending=False, kind="stable")["pattern"]))
    figure = new_figure(1.1 + 0.2 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, title in zip(
        panels, ("sparse_speedup", "step_speedup"), ("products that run the pattern", "whole training step"), strict=True
    ):
        axes.axvline(1, color=INK, linewidth=0.9)
        for row, name in enumerate(names):
            part = frame[frame["name"] == name]
            axes.plot([1, part[column].max()], [row, row], color=RULE, linewidth=0.6, zorder=1)
            for pattern, speedup in zip(part["pattern"], part[column], strict=True):
                place = patterns.index(pattern)
                axes.plot(speedup, row, SERIES_MARKERS[place], color=SERIES_COLOURS[place], markersize=4.2, alpha=0.9, zorder=3)
            if part[column].notna().any():
                end_label(axes, part[column].max(), row, significant(part[column].max()), gap_points=6)
        axes.set_title(title)
        axes.set_xlim(min(0.9, 0.95 * float(frame[column].min())), 1.14 * max(1.05, float(frame[column].max())))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("speed-up over dense (times)")
    panels[0].set_yticks(range(len(names)), [clip(name, 48) for name in names])
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    handles = [
        Line2D([], [], linestyle="none", marker=SERIES_MARKERS[place], color=SERIES_COLOURS[place], markersize=4.5, label=pattern)
        for place, pattern in enumerate(patterns)
    ]
    figure.legend(
        handles=[*handles, Line2D([], [], color=INK, linewidth=0.9, label="1: as fast as dense")], loc="outside upper left", ncols=8
    )
    return figure
