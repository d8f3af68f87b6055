"""Why each kernel takes its cycles: busy and named stalls as shares of all."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nmsim.report.kernels import SUMS, alike_kernels, kernel_frame, main_scheme, schemes_of
from nmsim.report.labels import count_text, phase_name, scheme_name, shorten, unit_name
from nmsim.report.style import INK, STALL_COLOURS, legend_above, new_figure, stack_segments, stall_patch
from nmsim.result.rows import PHASES, SimulationResult
from nmsim.result.schema import STALL_COLUMNS

MAX_KERNELS = 14
LEAST_SHARE = 0.01
"""A stall that reaches this in no bar is drawn as part of `other`."""
LEAST_LABELLED = 6
"""A segment of fewer percents has no room for its number."""
ALL_SCHEMES = "all schemes"
SHARES = {"busy": "busy_share", **{name: f"{name}_share" for name in STALL_COLUMNS}}
COLUMNS = ["level", "label", "phase", "scheme", "kernels", "cycles", *SHARES.values()]


def data(result: SimulationResult) -> pd.DataFrame:
    """A row a phase x scheme (`level` phase), then the slowest kernels of the main scheme (`level` kernel)."""
    kernels = kernel_frame(result)
    if kernels.empty:
        return pd.DataFrame(columns=COLUMNS)
    schemes = schemes_of(result)
    phases = kernels.groupby(["phase", "scheme"])[list(SUMS)].sum()
    phases["kernels"] = kernels.groupby(["phase", "scheme"]).size()
    order = [(phase, scheme) for phase in PHASES for scheme in schemes if (phase, scheme) in phases.index]
    by_phase = phases.loc[order].reset_index().assign(level="phase", label=lambda frame: frame["phase"].map(phase_name))
    slowest = alike_kernels(kernels[kernels["scheme"] == main_scheme(schemes)]).head(MAX_KERNELS).assign(level="kernel")
    both = pd.concat([by_phase, slowest], ignore_index=True)
    both = both[both["cycles"] > 0].reset_index(drop=True)
    for name, column in SHARES.items():
        both[column] = both["busy_cycles" if name == "busy" else STALL_COLUMNS[name]] / both["cycles"]
    return both[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    """Horizontal stacks of 100 %: phase totals above, kernels below, total cycles at the right."""
    levels = [level for level in ("phase", "kernel") if level in set(frame["level"])]
    parts = [_merged(frame[frame["level"] == level]) for level in levels]
    shown = [name for name, column in SHARES.items() if frame[column].max() >= LEAST_SHARE]
    folded = len(shown) < len(SHARES)
    figure = new_figure(1.25 + 0.2 * sum(map(len, parts)) + 0.35 * len(levels))
    panels = figure.subplots(len(levels), 1, sharex=True, squeeze=False, height_ratios=[len(part) + 0.8 for part in parts])[:, 0]
    for axes, level, part in zip(panels, levels, parts, strict=True):
        _stack(axes, part.reset_index(drop=True), shown)
        axes.set_yticks(range(len(part)), _labels(part, level))
        axes.set_title("phases" if level == "phase" else f"slowest kernels, {scheme_name(part['scheme'].iloc[0])}")
    panels[-1].set_xlabel("share of cycles (%), mean over SMs")
    handles = [stall_patch(name, unit_name(name)) for name in shown]
    if folded:
        handles.append(stall_patch("other", f"other stalls (each < {LEAST_SHARE:.0%})".replace("%", " %")))
    legend_above(figure, handles, columns=6)
    return figure


def _merged(part: pd.DataFrame) -> pd.DataFrame:
    """One bar for a phase that is the same under all schemes (the other operators, as a rule)."""
    phases = part[part["level"] == "phase"].groupby("phase", sort=False)
    equal = [phase for phase, rows in phases if len(rows) > 1 and len(rows[["cycles", *SHARES.values()]].drop_duplicates()) == 1]
    merged = part.assign(scheme=part["scheme"].where(~part["phase"].isin(equal), ALL_SCHEMES))
    is_again = merged["phase"].isin(equal) & merged["phase"].duplicated() & (merged["level"] == "phase")
    return merged[~is_again]


def _labels(part: pd.DataFrame, level: str) -> list[str]:
    if level == "phase":
        return [f"{row.label} · {scheme_name(str(row.scheme))}" for row in part.itertuples()]
    counts = [f" ×{row.kernels}" if int(str(row.kernels)) > 1 else "" for row in part.itertuples()]
    return [
        f"{shorten(str(row.label), 34)}{count} · {phase_name(str(row.phase))}" for row, count in zip(part.itertuples(), counts, strict=True)
    ]


def _stack(axes: Axes, part: pd.DataFrame, shown: list[str]) -> None:
    hidden = [column for name, column in SHARES.items() if name not in shown]
    widths = {name: 100 * part[SHARES[name]] for name in shown} | {"other": 100 * part[hidden].sum(axis=1)}
    left = 0.0 * part["cycles"]
    for name, percent in widths.items():
        stack_segments(axes, percent, left, name, STALL_COLOURS[name], height=0.72, least_labelled=LEAST_LABELLED)
        left = left + percent
    axes.set_title("cycles", loc="right", fontsize=6.5, fontweight="normal", x=1.01, ha="left")
    for row, cycles in enumerate(part["cycles"]):
        axes.text(101, row, count_text(cycles), va="center_baseline", fontsize=6.5, color=INK)
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
