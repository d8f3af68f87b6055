"""The generated half of docs/validation.md: every bar, every row, what was fitted to what; and the rows as one CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

STANDINGS = {
    "counted": "Predicted",
    "reported": "Reported only, counted by no bar",
    "fitted": "Fitted or taken as input, counted by no bar",
}
COLUMNS = (
    "suite",
    "row",
    "quantity",
    "unit",
    "published",
    "simulated",
    "error_percent",
    "standing",
    "fitted_to",
    "bars",
    "note",
    "source",
    "status",
)


def write_page(validation: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `tables.md` and `rows.csv` into `folder`; returns the files."""
    page, rows = folder / "tables.md", folder / "rows.csv"
    page.write_text("\n".join(_page(validation)) + "\n", encoding="utf-8")
    with rows.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for suite in validation["suites"]:
            for row in suite["rows"]:
                joined = {"fitted_to": "; ".join(row["fitted_to"]), "bars": "; ".join(row["bars"])}
                writer.writerow({"suite": suite["suite"], **row, **joined})
    return [page, rows]


def _page(validation: Mapping[str, Any]) -> list[str]:
    lines = [
        "# Validation: tables",
        "",
        f"Written by `{validation['command']}` with model {validation['model_version']}, explained in [validation.md](../validation.md).",
        "An error is simulated over published, less one.",
        "",
        "## Bars",
        "",
        *_table(("suite", "bar", "value", "limit", "rows", "", "evidence"), map(_bar, _verdicts(validation)), right=(2, 3, 4)),
        "",
        "## What was fitted to what",
        "",
        *_table(
            ("constant", "file", "row", "how"),
            [(f"`{one['constant']}`", one["arch"], one["row"], one["how"]) for one in validation["fitted"]],
        ),
    ]
    if validation.get("ablation"):
        lines += ["", "## What each mechanism is worth", "", *_ablation(validation["ablation"])]
    for suite in validation["suites"]:
        lines += ["", f"## {suite['suite']}: {suite['title']}"]
        for standing, title in STANDINGS.items():
            rows = [row for row in suite["rows"] if row["standing"] == standing and "curve" not in row["tags"]]
            if rows:
                last = "fitted to" if standing == "fitted" else "note"
                cells = [(*_numbers(row), "; ".join(row["fitted_to"]) if standing == "fitted" else row["note"]) for row in rows]
                columns = ("row", "quantity", "published", "simulated", "unit", "error", last)
                lines += ["", f"{title}:", "", *_table(columns, cells, right=(2, 3, 5))]
        lines += ["", *(f"Left out: {line}." for line in suite["left_out"])] if suite["left_out"] else []
    return lines


def _verdicts(validation: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for suite in validation["suites"]:
        for verdict in suite["verdicts"]:
            yield suite["suite"], verdict


def _bar(named: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    suite, verdict = named
    value = "" if verdict["value"] is None else f"{verdict['value']:.1f}"
    limit = "" if verdict["limit"] is None else f"{verdict['limit']:g}"
    word = {True: "met", False: "**missed**", None: "not run"}[verdict["passed"]]
    return suite, verdict["name"], value, limit, str(verdict["rows"] or ""), word, verdict["evidence"]


def _numbers(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row['published']:,.4g}", f"{row['simulated']:,.4g}")
    return row["row"], row["quantity"], *numbers, row["unit"], f"{row['error_percent']:+.1f} %"


def _ablation(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    bars = list(rows[0]["values"])
    cells = [(row["mechanism"], *(_value(row["values"][bar]) for bar in bars)) for row in rows]
    return _table(("without", *bars), cells, right=range(1, len(bars) + 1))


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    aligned = set(right)
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if index in aligned else "---" for index in range(len(columns))) + "|",
    ]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
