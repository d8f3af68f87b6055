"""The tables of a study's page: its points, those that failed, and where machines and traces come from."""

from __future__ import annotations

import json

from nmsim.report.labels import MISSING, percent_text, si, time_text, times
from nmsim.report.study import Study, differing_words
from nmsim.report.study_figures.density import sparse_speedups
from nmsim.report.tables import Table, sources_table

MAX_POINTS = 40
MAX_FAILED = 20
SET = "set by "
"""How the source of a value begins that the sweep set (`nmsim.arch.compose`)."""


def points_table(study: Study) -> tuple[Table, int]:
    """The points under the traced scheme, fastest over dense first, and how many are left out."""
    traced = study.traced.merge(sparse_speedups(study), on="point_key", how="left")
    names = differing_words(traced)
    ranked = traced.assign(name=names).sort_values("speedup_vs_dense", ascending=False, kind="stable", na_position="last")
    head = ("point", "its products over dense", "step over dense", "step over tile-wise", "time", "energy", "accuracy", "legality")
    rows = tuple(
        (
            row["name"],
            _ratio(row["sparse_speedup"]),
            _ratio(row["speedup_vs_dense"]),
            _ratio(row["speedup_vs_tile_wise"]),
            time_text(row["time_us"]),
            si(row["energy_j"], "J"),
            percent_text(row["held_out_accuracy"]) if row["held_out_accuracy"] == row["held_out_accuracy"] else "not trained",
            row["legality"],
        )
        for row in ranked.head(MAX_POINTS).to_dict("records")
    )
    return Table(head, rows, frozenset(range(1, 7))), len(ranked) - len(rows)


def failed_table(study: Study) -> tuple[Table, int] | None:
    """The points that could not be simulated, with their errors, and how many are left out; None where all could."""
    if study.failed.empty:
        return None
    names = [
        " ".join(str(row[axis]) for axis in ("arch", "overrides", "workload", "recipe", "pattern") if row[axis])
        for row in study.failed.to_dict("records")
    ]
    rows = tuple(zip(names, study.failed["error"], strict=True))
    return Table(("point", "why it has no result"), rows[:MAX_FAILED], frozenset()), max(0, len(rows) - MAX_FAILED)


def identity_table(study: Study) -> Table:
    """The hash of every machine and trace of the study, and how each trace was trained."""
    rows = []
    for kind, column in (("machine", "machine"), ("trace", "trace")):
        for record in study.identities.drop_duplicates(column).to_dict("records"):
            made = f"{record['provenance']}" if kind == "trace" else ""
            rows.append((kind, record[column], record[f"{'arch' if kind == 'machine' else 'trace'}_key"] or MISSING, made))
    return Table(("", "name", "key", "trained"), tuple(rows), frozenset())


def study_sources(study: Study) -> list[tuple[str, Table]]:
    """Where the values of each machine of the study come from, overrides apart: (name, table)."""
    listed = []
    for one in study.identities.drop_duplicates("arch").to_dict("records"):
        sources: dict[str, str] = json.loads(one["sources_json"] or "{}")
        listed.append((str(one["arch"]), sources_table({path: text for path, text in sources.items() if not text.startswith(SET)})))
    return [(name, table) for name, table in listed if table.rows]


def _ratio(value: float) -> str:
    return times(value) if value == value else MISSING
