"""What holds a sparser pattern back: the time of the products that run it, by what the tensor pipe did, pattern by pattern."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nmsim.report.labels import clip, times, unit_name
from nmsim.report.study import Study, differing_words
from nmsim.report.style import LAUNCH_COLOUR, STALL_COLOURS, end_label, legend_above, new_figure, stack_segments, stall_patch
from nmsim.result.schema import STALL_COLUMNS

LEAST_SHARE = 0.01
LEAST_LABELLED = 4
MAX_ROWS = 9
PARTS = ("busy", *STALL_COLUMNS, "launch")
SHARES = {part: f"{part}_percent" for part in PARTS}
PLACE = ["machine", "workload", "recipe", "batch", "dtype", "l2"]
COLUMNS = ["name", *PLACE, "pattern", "density", "speedup", *SHARES.values()]


def data(study: Study) -> pd.DataFrame:
    """A row a pattern, dense first, of the first machine and of the one on which the sparsest pattern gains most.

    Shares are percents of the dense time of the same GEMMs.
    """
    traced = study.traced
    sparse = traced[(traced["density"] < 1) & traced["speedup_vs_dense"].notna() & traced["point_key"].isin(study.products["point_key"])]
    if sparse.empty:
        return pd.DataFrame(columns=COLUMNS)
    sparse = sparse.assign(name=differing_words(sparse, also_pattern=False))
    sparsest = sparse[sparse["density"] == sparse["density"].min()]
    best = sparsest.loc[sparsest["speedup_vs_dense"].idxmax()]
    first = sparsest.iloc[0]
    parts = [_place(study.products, sparse, place) for place in ([first] if first["machine"] == best["machine"] else [first, best])]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _place(products: pd.DataFrame, sparse: pd.DataFrame, place: pd.Series) -> pd.DataFrame:
    """The rows of one place: everything but the pattern as in `place`."""
    here = sparse[(sparse[PLACE] == place[PLACE]).all(axis=1)].sort_values("density", ascending=False, kind="stable")
    here = here.drop_duplicates("pattern").head(MAX_ROWS)
    found: list[dict[str, Any]] = []
    for key, pattern, density in zip(here["point_key"], here["pattern"], here["density"], strict=True):
        own = products[products["point_key"] == key].set_index("scheme")
        dense_us = float(own["time_us"]["dense"])
        if not found:
            found.append(_record(own.loc[["dense"]], dense_us) | {"pattern": "dense", "density": 1.0})
        found.append(_record(own.loc[["traced"]], dense_us) | {"pattern": pattern, "density": density})
    return pd.DataFrame([{**place[["name", *PLACE]].to_dict(), **record} for record in found])


def _record(rows: pd.DataFrame, dense_us: float) -> dict[str, Any]:
    def percent(column: str) -> float:
        return 100 * float((rows[column] / rows["clock_mhz"]).sum()) / dense_us

    stalls = {SHARES[name]: percent(column) for name, column in STALL_COLUMNS.items()}
    launch = 100 * float(rows["launch_us"].sum()) / dense_us
    total_us = float(rows["time_us"].sum())
    return {SHARES["busy"]: percent("busy_cycles"), **stalls, SHARES["launch"]: launch, "speedup": dense_us / total_us if total_us else 0.0}


def draw(frame: pd.DataFrame) -> Figure:
    """A panel a machine, a bar a pattern: as long as its time against dense, in parts."""
    machines = list(dict.fromkeys(frame["machine"]))
    parts = [frame[frame["machine"] == machine].reset_index(drop=True) for machine in machines]
    shown = [part for part in PARTS if frame[SHARES[part]].max() >= 100 * LEAST_SHARE]
    figure = new_figure(1.15 + 0.26 * len(frame) + 0.35 * len(machines))
    panels = figure.subplots(len(machines), 1, sharex=True, squeeze=False, height_ratios=[len(part) + 0.8 for part in parts])[:, 0]
    for axes, machine, part in zip(panels, machines, parts, strict=True):
        _bars(axes, part, shown)
        name = str(part["name"].iloc[0])
        arch = str(machine).partition(" ")[0]
        axes.set_title(clip(arch if name == arch else f"{arch}, {name}", 100))
    panels[-1].set_xlabel("time of the products that run the pattern (% of their time when dense)")
    handles = [_patch(part) for part in shown]
    if len(shown) < len(PARTS):
        handles.append(stall_patch("other", "other stalls"))
    legend_above(figure, handles, columns=6)
    return figure


def _bars(axes: Axes, part: pd.DataFrame, shown: list[str]) -> None:
    hidden = [SHARES[name] for name in PARTS if name not in shown]
    widths = {name: part[SHARES[name]] for name in shown} | {"other": part[hidden].sum(axis=1)}
    left = 0.0 * part["density"]
    for name, percent in widths.items():
        stack_segments(axes, percent, left, name, _colour(name), height=0.74, least_labelled=LEAST_LABELLED)
        left = left + percent
    for row, (end, speedup) in enumerate(zip(left, part["speedup"], strict=True)):
        end_label(axes, end, row, times(speedup), weight="bold")
    axes.set_yticks(range(len(part)), [str(pattern) for pattern in part["pattern"]])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(100.0, float(left.max())))


def _colour(part: str) -> str:
    return LAUNCH_COLOUR if part == "launch" else STALL_COLOURS[part]


def _patch(part: str) -> Patch:
    return Patch(facecolor=LAUNCH_COLOUR, label=unit_name(part)) if part == "launch" else stall_patch(part, unit_name(part))
