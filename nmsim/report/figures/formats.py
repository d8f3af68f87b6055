"""Which sparse format gains what: the step, and each training product of the pruned layers, beside the accuracy it was trained to."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nmsim.report.formats import EXECUTED, kept_density, pruned_products, with_executed
from nmsim.report.kernels import kernel_frame, schemes_of
from nmsim.report.labels import density_text, phase_name, scheme_name, shorten, times
from nmsim.report.style import INK, QUIET, new_figure, scheme_colour
from nmsim.result.rows import SimulationResult
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import PHASES

STEP = "step"
TRACED_IS = {"tile-wise": "tile_wise", "tew": "tew"}
"""Recipe -> the baseline that is pruned as it was: by the plan that the trace holds as its own."""
NOT_TRAINED = "not trained"
MAX_NAME = 24
FINE_TICKS = (0.75, 1, 1.5)
"""Where all formats are about as fast as dense."""
LABEL_ROOM = 0.6
"""At the right of the bars, as a share of what they span."""
OCTAVES_A_TICK = 4
"""More octaves on a panel than these, and the numbers under neighbouring ones touch."""
TICKS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32)
TIMES = ["dense_time_us", "time_us", "speedup_vs_dense"]
COLUMNS = ["scheme", "name", "density", "part", *TIMES, "executed_share", "ran_sparse", "held_out_accuracy"]


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a scheme other than dense x part (`step`, then the phases of the pruned layers), by the speed-up of the step.

    `density` is the share of the pruned layers' weights that the scheme keeps, missing where nothing says it; `executed_share` the MACs
    that their products execute over those that dense executes, both with their padding (of a step: of its pruned layers);
    `held_out_accuracy` is missing where nobody trained the format. Empty where dense was not simulated, or nothing else, or nothing
    ran sparse.
    """
    kernels = with_executed(kernel_frame(result))
    schemes = [scheme for scheme in schemes_of(result) if scheme != "dense"]
    products = pruned_products(kernels) if len(kernels) else pd.DataFrame()
    if not schemes or "dense" not in result.total or products.empty:
        return pd.DataFrame(columns=COLUMNS)
    sums = {(row["scheme"], row["phase"]): row for row in products.to_dict("records")}
    executed = products.groupby("scheme")[EXECUTED].sum()
    records = []
    for scheme in sorted(schemes, key=lambda scheme: result.total[scheme].time_us):
        own_rows = kernels[kernels["scheme"] == scheme]
        kept, rows = kept_density(own_rows["reason"]), own_rows[own_rows["ran_sparse"]]
        density = _density_of_patterns(rows) if scheme == "traced" and kept is None else kept
        about: dict[str, Any] = {
            "scheme": scheme,
            "name": _name(result, scheme, kept),
            "density": density,
            "held_out_accuracy": _accuracy(result, scheme),
        }
        step = {"dense_time_us": result.total["dense"].time_us, "time_us": result.total[scheme].time_us, "ran_sparse": len(rows) > 0}
        records.append(about | {"part": STEP, "executed_share": executed[scheme] / executed["dense"]} | step)
        for phase in PHASES:
            if own := sums.get((scheme, phase)):
                dense = sums["dense", phase]
                product = {"dense_time_us": dense["time_us"], "time_us": own["time_us"], "ran_sparse": own["ran_sparse"]}
                records.append(about | {"part": phase, "executed_share": own[EXECUTED] / dense[EXECUTED]} | product)
    frame = pd.DataFrame(records)
    return frame.assign(speedup_vs_dense=frame["dense_time_us"] / frame["time_us"])[COLUMNS]


def _density_of_patterns(rows: pd.DataFrame) -> float | None:
    """Of the N:M pattern that most of the time of the rows that ran sparse is spent on."""
    time_us = rows[rows["native_pattern"].str.contains(":")].groupby("native_pattern")["time_us"].sum()
    return None if time_us.empty else float(NMPattern.parse(str(time_us.idxmax())).density)


def _name(result: SimulationResult, scheme: str, kept: float | None) -> str:
    """`tile-wise, 1/2`; what was traced goes by its recipe, and by its pattern where it is not pruned in tiles."""
    name = scheme_name(scheme) if scheme != "traced" else f"traced: {result.provenance.get('recipe') or '?'}"
    if kept is not None:
        return f"{name}, {density_text(kept)}"
    parameters = result.provenance.get("hyper_parameters")
    pattern = parameters.get("pattern") if scheme == "traced" and isinstance(parameters, Mapping) else None
    return f"{name} {pattern}" if pattern else name


def _accuracy(result: SimulationResult, scheme: str) -> float | None:
    provenance = result.provenance
    accuracy, recipe = provenance.get("accuracy"), str(provenance.get("recipe"))
    is_it = scheme == "traced" or TRACED_IS.get(recipe) == scheme
    return float(accuracy) if is_it and provenance.get("kind") == "trained" and isinstance(accuracy, int | float) else None


def draw(frame: pd.DataFrame) -> Figure:
    """A panel the step, then one a phase: bars from 1 on a logarithmic axis, their ratios written at their ends; the accuracy last."""
    parts = list(dict.fromkeys(frame["part"]))
    rows = frame.drop_duplicates("scheme").to_dict("records")
    schemes = [str(row["scheme"]) for row in rows]
    figure = new_figure(1.0 + 0.24 * len(rows))
    panels = figure.subplots(1, len(parts) + 1, sharey=True, width_ratios=[*[1.0] * len(parts), 0.7])
    for axes, part in zip(panels, parts, strict=False):
        _panel(axes, frame[frame["part"] == part], schemes)
        axes.set_title("step" if part == STEP else phase_name(str(part)))
        _scale(axes, frame["speedup_vs_dense"])
    panels[0].set_yticks(range(len(rows)), [shorten(str(row["name"]), MAX_NAME) for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    panels[len(parts) // 2].set_xlabel("speed-up over dense (time of dense / time)", x=0 if len(parts) % 2 == 0 else 0.5)
    _accuracies(panels[-1], rows)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, schemes: list[str]) -> None:
    axes.axvline(1, color=INK, linewidth=0.9)
    axes.tick_params(axis="y", length=0)
    for row in frame.to_dict("records"):
        place, ratio = schemes.index(row["scheme"]), row["speedup_vs_dense"]
        axes.barh(place, ratio - 1, left=1, height=0.62, color=scheme_colour(row["scheme"], schemes))
        text = times(ratio) if row["ran_sparse"] else f"{times(ratio)}, dense"
        # At the right of its bar or of the line at 1: there is room for it whichever way the bar points.
        axes.annotate(text, (max(ratio, 1.0), place), (4, 0), textcoords="offset points", va="center", fontsize=6.5, color=INK)


def _scale(axes: Axes, ratios: pd.Series[float]) -> None:
    """A logarithmic axis, on which half and twice the speed are as long, with room for labels at its right."""
    least, most = min(float(ratios.min()), 0.8), max(float(ratios.max()), 1.25)
    axes.set_xscale("log")
    axes.set_xlim(least / 1.1, most * (most / least) ** LABEL_ROOM)
    octaves = log2(most / least) * (1 + LABEL_ROOM)
    step = 1 + int(octaves / OCTAVES_A_TICK)
    within = [tick for tick in TICKS if least / 1.1 <= tick <= most * 1.1]
    ticks = [tick for tick in within if (TICKS.index(tick) - TICKS.index(1)) % step == 0]
    if len(ticks) < 2:
        ticks = within if len(within) > 1 else [tick for tick in FINE_TICKS if least <= tick <= most * 1.1]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))


def _accuracies(axes: Axes, rows: list[dict[Any, Any]]) -> None:
    """The held-out accuracy of each row, or that nobody trained it."""
    axes.set_title("accuracy", x=0.08)
    axes.set_xlim(-0.08, 0.92)
    axes.grid(visible=False)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    for place, row in enumerate(rows):
        trained = row["held_out_accuracy"] == row["held_out_accuracy"] and row["held_out_accuracy"] is not None
        text = f"{100 * row['held_out_accuracy']:.1f} %" if trained else NOT_TRAINED
        axes.text(0, place, text, va="center", fontsize=7, color=INK if trained else QUIET, fontweight="bold" if trained else "normal")
