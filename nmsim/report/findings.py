"""A study in sentences: what sparser patterns gain, of what ideal, what holds them back, and which parameter matters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from nmsim.report.labels import density_text, times, unit_name
from nmsim.report.study import Study, varying
from nmsim.report.study_figures import density, limits, tornado

PAYS = 1.05
"""A sparser pattern pays where its step is at least this much faster than that of the next denser one."""
MOST_REASONS = 3
LEAST_MOVE = 1.002
"""A parameter that gains less is not named."""


def findings(study: Study) -> tuple[str, ...]:
    """The sentences, the most general first; each is computed from the frames that the figures are drawn from."""
    said = [_extent(study)]
    every = density.data(study)
    gains = every[every["sparse_speedup"].notna()]
    if len(gains):
        said += _patterns(gains)
        said += _remains(limits.data(study))
    said += _never_ran(every)
    said += _parameters(tornado.data(study))
    return (*said, *_cautions(study))


def _extent(study: Study) -> str:
    traced = study.traced
    axes = ["machine" if axis == "arch" else axis for axis in varying(traced)]
    machines = traced["machine"].nunique()
    counts = [f"{machines} machines" if machines > 1 else "one machine"]
    counts += [f"{traced[axis].nunique()} {_plural(axis)}" for axis in axes if axis != "machine"]
    failed = f"; {len(study.failed)} more could not be simulated" if len(study.failed) else ""
    return f"{len(traced)} points over {', '.join(counts)}{failed}."


def _patterns(gains: pd.DataFrame) -> list[str]:
    """What each pattern gains where the study starts, whether the sparsest pays there, and where it gains most."""
    first = gains[gains["series"] == gains["series"].iloc[0]].drop_duplicates("pattern")
    listed = "; ".join(map(_gain, first.to_dict("records")))
    said = [f"On {_where(first.to_dict('records')[0])}, the products that run each pattern gain over dense: {listed}."]
    sparsest = gains[gains["density"] == gains["density"].min()]
    best = sparsest.loc[[sparsest["step_speedup"].idxmax()]].to_dict("records")[0]
    said += _pays(first)
    if gains["series"].nunique() > 1:
        said.append(f"The sparsest pattern gains most on {best['series']}: {_gain(best)}.")
        said += _pays(gains[gains["series"] == best["series"]].drop_duplicates("pattern"), f" on {best['series']}")
    return said


def _never_ran(points: pd.DataFrame) -> list[str]:
    """Patterns that some machine ran nowhere, neither as they are nor as one that contains them."""
    ran = points.groupby(["machine", "pattern"], sort=False)["sparse_speedup"].count()
    left_out = [(str(machine), str(pattern)) for machine, pattern in ran[ran == 0].index]
    if not left_out:
        return []
    patterns = dict.fromkeys(pattern for _, pattern in left_out)
    machines = dict.fromkeys(machine for machine, _ in left_out)
    where = f"on {next(iter(machines))}" if len(machines) == 1 else f"on {len(machines)} of {points['machine'].nunique()} machines"
    return [f"No product ran {', '.join(patterns)} {where}: those steps are dense with the recipe's passes on top."]


def _pays(series: pd.DataFrame, where: str = "") -> list[str]:
    by_density = series.sort_values("density", ascending=False, kind="stable").drop_duplicates("density").to_dict("records")
    if len(by_density) < 2:
        return []
    denser, sparsest = by_density[-2:]
    gain = sparsest["step_speedup"] / denser["step_speedup"]
    verdict = "pays" if gain >= PAYS else "hardly pays" if gain > 1 else "does not pay"
    products = _percent(sparsest["sparse_speedup"] / denser["sparse_speedup"])
    kept = density_text(sparsest["density"] / denser["density"])
    return [
        " ".join(
            (
                f"{sparsest['pattern']} {verdict} beside {denser['pattern']}{where}: {_percent(gain)} in the speed of the step,",
                f"{products} in that of the products that run it, for {kept} of the weights.",
            )
        )
    ]


def _where(row: Mapping[Hashable, Any]) -> str:
    """A machine by its architecture and what was changed of it: `ampere_flex_nm (as it is)`."""
    arch = str(row["machine"]).partition(" ")[0] or str(row["machine"])
    return f"{arch} ({row['series']})" if row["series"] != arch else arch


def _gain(row: Mapping[Hashable, Any]) -> str:
    """`1:4 2.31× of an ideal 4× (1.42× for the step)`, with what the machine ran in its place where it does not hold the pattern."""
    ideal = f"{1 / row['density']:.3g}×"
    run_as = f" (run as {row['native']})" if row["native"] != row["pattern"] else ""
    return f"{row['pattern']}{run_as} {times(row['sparse_speedup'])} of an ideal {ideal} ({times(row['step_speedup'])} for the step)"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def _remains(parts: pd.DataFrame) -> list[str]:
    said = []
    for machine, rows in parts.groupby("machine", sort=False):
        sparsest = rows.sort_values("density", kind="stable").iloc[0]
        total = sum(float(sparsest[column]) for column in limits.SHARES.values())
        largest = sorted(((float(sparsest[column]), part) for part, column in limits.SHARES.items()), reverse=True)[: MOST_REASONS + 1]
        words = ", ".join(f"{unit_name(part)} {percent:.0f} %" for percent, part in largest if percent >= 1)
        where = _where({"machine": machine, "series": sparsest["name"]})
        said.append(
            f"Of the time that dense takes for its products on {where}, {sparsest['pattern']} leaves {total:.0f} %, where its density "
            f"alone would leave {100 * sparsest['density']:.1f} %: {words}."
        )
    return said


def _parameters(moves: pd.DataFrame) -> list[str]:
    sparse = moves[moves["metric"] == "sparse_speedup"]
    if sparse.empty:
        return []
    said = []
    for pattern, part in sparse.groupby("pattern", sort=False):
        up = part.loc[part.groupby("parameter", sort=False)["ratio"].idxmax()].sort_values("ratio", ascending=False, kind="stable")
        up = up[up["ratio"] >= LEAST_MOVE]
        words = [
            f"{row['parameter']} {row['base']} → {row['value']} ({_percent(row['ratio'])})"
            for row in up.head(MOST_REASONS).to_dict("records")
        ]
        if words:
            said.append(f"What speeds up the products of {pattern} over dense most: {', '.join(words)}.")
    return said[-2:]


def _cautions(study: Study) -> list[str]:
    traced = study.traced
    said = []
    untrained = traced[(traced["accuracy"] != "trained") & (traced["density"] < 1)]
    if len(untrained):
        patterns = ", ".join(dict.fromkeys(untrained["pattern"]))
        said.append(f"Nobody trained {patterns} in {len(untrained)} of these points: no accuracy stands behind their times and energies.")
    assumed = int((traced["legality"] == "assumed").sum())
    if assumed:
        said.append(f"The legality of the pattern is assumed, not checked on a mask, in {assumed} points.")
    return said


def _plural(axis: str) -> str:
    return {"batch": "batch sizes", "l2": "L2 states", "dtype": "element types"}.get(axis, f"{axis}s")
