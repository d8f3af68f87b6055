"""`nmsim report`: figures and one page from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that simulate or sweep wrote with --out.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the report goes, for example reports/NAME.", show_default=False)
    ],
    runs: Annotated[
        int | None, typer.Option(min=0, help="How many runs to show in detail; of a sweep the two most telling without it.")
    ] = None,
    png: Annotated[bool, typer.Option("--png/--no-png", help="Also write each figure as PNG.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the written files as one JSON object.")] = False,
) -> None:
    """Draw the figures of stored results and write one self-contained HTML page.

    Each figure also comes as SVG, PNG and the CSV it was drawn from. Of several runs, or a sweep, figures across them come first.

    Examples:

      nmsim report results/bert --out reports/bert

      nmsim report results/sweep --out reports/sweep --runs 0 --no-png
    """
    import json

    from nmsim.report.write import write_report

    written = write_report(directory, out, runs=runs, png=png)
    if as_json:
        typer.echo(json.dumps({"page": str(written.page), "files": [str(file) for file in written.files]}))
        return
    typer.echo(f"report   {written.page}")
    typer.echo(f"figures  {len(written.files)} files in {out / 'figures'}")
