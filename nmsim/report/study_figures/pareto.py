"""What accuracy costs: held-out accuracy against time and energy, of a step and of the whole run that reached it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nmsim.report.labels import shorten, si_scale
from nmsim.report.study import Study
from nmsim.report.style import INK, QUIET, SERIES_COLOURS, SERIES_MARKERS, new_figure

MAX_RECIPES = 8
COSTS = {
    "time_s": ("a step", "s"),
    "energy_j": ("a step", "J"),
    "run_time_s": ("the whole run", "s"),
    "run_energy_j": ("the whole run", "J"),
}
FRONTS = {cost: f"on_front_{cost}" for cost in COSTS}
PLACE = ["machine", "workload", "batch", "dtype", "l2"]
COLUMNS = ["machine", "workload", "recipe", "pattern", "trace", "batch", "dtype", "held_out_accuracy", "steps", *COSTS, *FRONTS.values()]


def data(study: Study) -> pd.DataFrame:
    """A row a point whose pattern was trained, on the first machine and for the workload of most recipes, one element type.

    Traces of single stages of another's run are no points of their own.
    `on_front_*` is true where no other point is as accurate at less. Empty for fewer than two.
    """
    traced = study.traced[study.traced["held_out_accuracy"].notna()]
    if traced.empty:
        return pd.DataFrame(columns=COLUMNS)
    workload = traced.groupby("workload", sort=False)["trace"].nunique().idxmax()
    place = traced[traced["workload"] == workload].iloc[0]
    alike = study.traced[(study.traced[PLACE] == place[PLACE]).all(axis=1)]
    first = alike[alike["held_out_accuracy"].notna()]
    steps_of = alike.drop_duplicates("trace").set_index("trace")[["time_us", "energy_j"]]
    stages = {trace for own, schedule in zip(first["trace"], first["schedule"], strict=True) for _, trace in schedule if trace != own}
    ends = first[~first["trace"].isin(stages)].drop_duplicates(["trace", "pattern"])
    if len(ends) < 2:
        return pd.DataFrame(columns=COLUMNS)
    runs = [_run(row, steps_of) for row in ends.to_dict("records")]
    found = ends.assign(time_s=ends["time_us"] * 1e-6, run_time_s=[time for time, _ in runs], run_energy_j=[energy for _, energy in runs])
    return found.assign(**{front: _front(found, cost) for cost, front in FRONTS.items()})[COLUMNS].reset_index(drop=True)


def _run(row: Mapping[Hashable, Any], steps_of: pd.DataFrame) -> tuple[float, float]:
    """Seconds and joules of the run that ended at this step: as the sweep added its stages up.

    Without that, each stage at the cost of its own step where the study has it, and all at this one's where it has not.
    """
    if row["run_time_s"] > 0:
        return float(row["run_time_s"]), float(row["run_energy_j"])
    schedule = row["schedule"] or ((row["steps"], row["trace"]),)
    if any(trace not in steps_of.index for _, trace in schedule):
        schedule = ((row["steps"], row["trace"]),)
    costs = [(steps, steps_of.loc[[trace]].to_dict("records")[0]) for steps, trace in schedule]
    return sum(steps * cost["time_us"] for steps, cost in costs) * 1e-6, sum(steps * cost["energy_j"] for steps, cost in costs)


def _front(frame: pd.DataFrame, cost: str) -> list[bool]:
    """Whether each row is on the front: no row costs less and is at least as accurate."""
    pairs = list(zip(frame[cost], frame["held_out_accuracy"], strict=True))
    return [
        one == one and not any((less <= one and more >= accuracy) and (less, more) != (one, accuracy) for less, more in pairs)
        for one, accuracy in pairs
    ]


def draw(frame: pd.DataFrame) -> Figure:
    """Time and energy, of a step and of the run: up and left is better; the step line joins the points on the front."""
    recipes = list(dict.fromkeys(frame["recipe"]))
    patterns = list(dict.fromkeys(frame["pattern"]))
    figure = new_figure(5.2)
    grid = figure.subplots(2, 2, sharey=True)
    for axes, (cost, (span, unit)) in zip(grid.ravel(), COSTS.items(), strict=True):
        _panel(axes, frame, cost, recipes, patterns)
        scale, prefix = si_scale(float(frame[cost].max()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _, scale=scale: f"{value / scale:g}"))
        axes.set_xlabel(f"{'time' if unit == 's' else 'energy'} of {span} ({prefix}{unit})")
    for axes in grid[:, 0]:
        axes.set_ylabel("held-out accuracy (%)")
    handles = [Line2D([], [], linestyle="none", marker="o", color=_colour(name, recipes), label=shorten(str(name), 24)) for name in recipes]
    handles += [
        Line2D([], [], linestyle="none", marker=SERIES_MARKERS[place % len(SERIES_MARKERS)], color=QUIET, label=str(name))
        for place, name in enumerate(patterns)
    ]
    figure.legend(handles=[*handles, Line2D([], [], color=INK, linewidth=0.8, label="front")], loc="outside upper left", ncols=6)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, cost: str, recipes: list[str], patterns: list[str]) -> None:
    front = frame[frame[FRONTS[cost]]].sort_values(cost, kind="stable")
    axes.plot(front[cost], 100 * front["held_out_accuracy"], color=INK, linewidth=0.8, drawstyle="steps-post", zorder=1)
    for recipe, pattern, x, accuracy in zip(frame["recipe"], frame["pattern"], frame[cost], frame["held_out_accuracy"], strict=True):
        marker = SERIES_MARKERS[patterns.index(pattern) % len(SERIES_MARKERS)]
        axes.plot(x, 100 * accuracy, marker, color=_colour(recipe, recipes), markersize=5.5, markeredgecolor="white", markeredgewidth=0.5)
    axes.grid(visible=True, axis="both")
    axes.margins(0.08)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _colour(recipe: str, recipes: list[str]) -> str:
    return SERIES_COLOURS[recipes.index(recipe) % len(SERIES_COLOURS)]
