"""How the phases of a training step add up to its time under each scheme."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nmsim.report.kernels import schemes_of
from nmsim.report.labels import percent_text, phase_name, scheme_name, si_scale, significant
from nmsim.report.style import INK, PHASE_COLOURS, RULE, end_label, new_figure
from nmsim.result.rows import PHASES, SimulationResult

LEAST_CHANGE = 0.005
"""A phase that differs from dense by less is not said to differ."""
COLUMNS = ["scheme", "phase", "start_us", "time_us", "share_of_step", "change_vs_dense_us", "step_us"]


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a scheme x phase, dense first, with where the phase starts if all before it run one after another.

    A phase that takes no time under any scheme is left out; `change_vs_dense_us` is missing where dense was not simulated.
    """
    time_us = {(part.scheme, part.phase): part.time_us for part in result.phases}
    phases = [phase for phase in PHASES if any(time_us.get((scheme, phase), 0) > 0 for scheme in result.total)]
    records = []
    for scheme in schemes_of(result):
        start_us, step_us = 0.0, result.total[scheme].time_us
        for phase in phases:
            taken_us = time_us[scheme, phase]
            change_us = taken_us - time_us["dense", phase] if "dense" in result.total else None
            records.append((scheme, phase, start_us, taken_us, taken_us / step_us if step_us else 0.0, change_us, step_us))
            start_us += taken_us
    return pd.DataFrame(records, columns=COLUMNS)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel a scheme on one time axis: a floating bar a phase, then the step; a dashed line marks the dense step."""
    schemes, phases = list(dict.fromkeys(frame["scheme"])), list(dict.fromkeys(frame["phase"]))
    longest_us = float(frame["step_us"].max())
    scale, prefix = si_scale(longest_us * 1e-6)
    per_us = 1e-6 / scale
    dense_us = next(iter(frame.loc[frame["scheme"] == "dense", "step_us"]), None)
    figure = new_figure(0.55 + len(schemes) * (0.42 + 0.2 * (len(phases) + 1)))
    panels = figure.subplots(len(schemes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, scheme in zip(panels, schemes, strict=True):
        if dense_us is not None:
            axes.axvline(dense_us * per_us, color=RULE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        _cascade(axes, frame[frame["scheme"] == scheme], per_us, dense_us)
        axes.set_title(scheme_name(scheme))
    panels[-1].set_xlim(0, 1.3 * longest_us * per_us)
    panels[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[-1].set_xlabel(f"time in the training step ({prefix}s)")
    return figure


def _cascade(axes: Axes, part: pd.DataFrame, per_us: float, dense_us: float | None) -> None:
    """The bars of one scheme, each labelled with its time, its share and what it gains or loses against dense."""
    for row, phase in enumerate(part["phase"]):
        start, taken = part["start_us"].iloc[row] * per_us, part["time_us"].iloc[row] * per_us
        axes.barh(row, taken, left=start, height=0.74, color=PHASE_COLOURS[phase])
        axes.plot([start + taken] * 2, [row, row + 1], color=RULE, linewidth=0.6)
        change = part["change_vs_dense_us"].iloc[row] * per_us if dense_us is not None else 0.0
        against = f", {'+' if change > 0 else '−'}{significant(abs(change))} vs dense" if abs(change) > LEAST_CHANGE * taken else ""
        share = f"{significant(taken)} ({percent_text(part['share_of_step'].iloc[row])})" if taken else "none"
        end_label(axes, start + taken, row, f"{share}{against}")
    bottom, step_us = len(part), float(part["step_us"].iloc[0])
    axes.barh(bottom, step_us * per_us, height=0.74, color=INK)
    gain = f", {dense_us / step_us:.2f}× over dense" if dense_us and part["scheme"].iloc[0] != "dense" else ""
    end_label(axes, step_us * per_us, bottom, f"{significant(step_us * per_us)}{gain}", weight="bold")
    axes.set_yticks(range(bottom + 1), [*map(phase_name, part["phase"]), "step"])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(bottom + 0.5, -0.5)
