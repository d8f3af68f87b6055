"""How a recorded run went, as one figure: loss and accuracy, what its masks did, and what sparsifying the gradients cost.

Layers are thin lines, their mean is a thick one; vertical rules are where a stage of the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter

from nmsim.report.style import INK, QUIET, RULE, SERIES_COLOURS, figure_style, new_figure, save_figure
from nmsim.workload.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (
    ("loss", "loss of the step's batch", False),
    ("accuracy", "accuracy on it", False),
    ("flip_rate", "mask bits changed in the step", True),
    ("sad", "SAD since the point before", True),
    ("retained_magnitude", "share of the L1 norm kept", True),
    ("gradient", "error of the N:M gradient", True),
)
"""Panel -> what it shows, and whether it is by layer; those without data are left out."""
GRADIENT_LINES = {"mvue_variance": "variance, unbiased", "greedy_bias": "bias\u00b2, greedy"}
"""Both over the squared norm of dY."""


def write_training_curves(history: History, stage_steps: Sequence[int], stem: Path) -> tuple[Path, ...]:
    """Draws `history` and writes `stem`.svg and `stem`.png; `stage_steps` are the steps of the run's stages in order."""
    with figure_style():
        return save_figure(draw(history, stage_steps), stem)


def draw(history: History, stage_steps: Sequence[int]) -> Figure:
    """A panel for each thing that the history holds, two in a row; call it inside `figure_style`."""
    shown = [panel for panel in PANELS if _has(history, panel[0])]
    rows = -(-len(shown) // 2)
    figure = new_figure(0.4 + 1.75 * rows)
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True)
    for axes, (name, label, by_layer) in zip(grid.flat, shown, strict=False):
        if name == "gradient":
            _gradient(axes, history)
        else:
            if by_layer:
                _layers(axes, history, name, SERIES_COLOURS[0])
            else:
                axes.plot(history.step, getattr(history, name), color=SERIES_COLOURS[0])
            axes.set_ylim(bottom=0 if name != "retained_magnitude" else None)
        axes.set_ylabel(label)
        for end in list(accumulate(stage_steps))[:-1]:
            axes.axvline(end, color=RULE, linewidth=0.8, linestyle=":")
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shown) - 2) : len(shown)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    return figure


def _has(history: History, name: str) -> bool:
    if name == "gradient":
        return any("mvue_variance" in series for series in history.layers.values())
    # Masks that are drawn anew every few steps may have moved at none of the steps that were watched.
    return name in ("loss", "accuracy") or any(any(series.get(name, ())) for series in history.layers.values())


def _layers(axes: Axes, history: History, metric: str, colour: str, label: str = "") -> None:
    """Every layer that has the metric, and their mean."""
    lines = [series[metric] for series in history.layers.values() if metric in series]
    for values in lines:
        axes.plot(history.step, values, color=colour, linewidth=0.5, alpha=0.35)
    mean = [sum(values) / len(lines) for values in zip(*lines, strict=True)]
    axes.plot(history.step, mean, color=colour, linewidth=1.6, label=label or None)


def _gradient(axes: Axes, history: History) -> None:
    for (metric, label), colour in zip(GRADIENT_LINES.items(), SERIES_COLOURS, strict=False):
        _layers(axes, history, metric, colour, label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(fontsize=6.5, labelcolor=INK, edgecolor=QUIET)
