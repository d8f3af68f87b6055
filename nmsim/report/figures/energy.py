"""Which units take the step's energy under each scheme."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from nmsim.report.kernels import schemes_of
from nmsim.report.labels import scheme_name, si, si_scale, unit_name
from nmsim.report.style import ENERGY_COLOURS, end_label, label_segment, legend_above, new_figure
from nmsim.result.rows import ENERGY_UNITS, SimulationResult

COLUMNS = ["scheme", "unit", "energy_j", "share"]
LEAST_LABELLED = 0.045
"""A part narrower than this share of the longest bar has no room for its percentage."""


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a scheme x unit, dense first; empty where no energy was counted."""
    records = []
    for scheme in schemes_of(result):
        parts = [row.energy_by_unit_j for row in result.rows if row.scheme == scheme]
        by_unit_j = {unit: sum(part.get(unit, 0.0) for part in parts) for unit in ENERGY_UNITS}
        total_j = sum(by_unit_j.values())
        records += [(scheme, unit, energy_j, energy_j / total_j) for unit, energy_j in by_unit_j.items() if total_j > 0]
    return pd.DataFrame(records, columns=COLUMNS)


def draw(frame: pd.DataFrame) -> Figure:
    """A horizontal stack a scheme, its total and its ratio to dense at the end."""
    schemes = list(dict.fromkeys(frame["scheme"]))
    energy_j = dict(zip(zip(frame["scheme"], frame["unit"], strict=True), frame["energy_j"], strict=True))
    total_j = {scheme: sum(energy_j[scheme, unit] for unit in ENERGY_UNITS) for scheme in schemes}
    longest_j = max(total_j.values())
    scale, prefix = si_scale(longest_j)
    figure = new_figure(1.05 + 0.42 * len(schemes))
    axes = figure.subplots()
    for row, scheme in enumerate(schemes):
        left = 0.0
        for unit in ENERGY_UNITS:
            width = energy_j[scheme, unit] / scale
            axes.barh(row, width, left=left, height=0.66, color=ENERGY_COLOURS[unit], edgecolor="white", linewidth=0.5)
            if width * scale >= LEAST_LABELLED * longest_j:
                label_segment(axes, left, width, row, f"{100 * width * scale / total_j[scheme]:.0f} %", ENERGY_COLOURS[unit])
            left += width
        ratio = f", {total_j[scheme] / total_j['dense']:.2f} of dense" if scheme != "dense" and "dense" in total_j else ""
        end_label(axes, left, row, f"{si(total_j[scheme], 'J')}{ratio}")
    axes.set_yticks(range(len(schemes)), [scheme_name(scheme) for scheme in schemes])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(schemes) - 0.45, -0.55)
    axes.set_xlim(0, 1.25 * longest_j / scale)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"energy of one training step ({prefix}J)")
    spent = [unit for unit in ENERGY_UNITS if any(energy_j[scheme, unit] > 0 for scheme in schemes)]
    legend_above(figure, [Patch(facecolor=ENERGY_COLOURS[unit], label=unit_name(unit)) for unit in spent], columns=7)
    return figure
