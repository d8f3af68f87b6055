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
    as_json: Annotated[bool, typer.Option("--json", help="Print the written files as one JSON object.")] = False,
) -> None:
    """Draw the figures of stored results and write one self-contained HTML page.

    Each figure also comes as SVG, PNG and the CSV it was drawn from.

    Example: nmsim report results/bert --out reports/bert
    """
    import json

    from nmsim.report.write import write_report

    written = write_report(directory, out)
    if as_json:
        typer.echo(json.dumps({"page": str(written.page), "files": [str(file) for file in written.files]}))
        return
    typer.echo(f"report   {written.page}")
    typer.echo(f"figures  {len(written.files)} files in {out / 'figures'}")
