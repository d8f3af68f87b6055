"""What every figure shares: the style sheet, colours that stay apart for colour-blind readers and in print, and saving.

Colours are Paul Tol's vibrant and muted schemes (SRON/EPS/TN/09-002); stalls are grouped by hue, one for each level of the
machine, and ordered from dark to light within it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

STYLE_FILE = Path(__file__).parent / "nmsim.mplstyle"
WIDTH_IN = 7.5
"""Width of every figure: a page of A4 between its margins."""

INK, QUIET, RULE = "#1f2933", "#52606d", "#9aa5b1"

SCHEME_COLOURS = {
    "traced": "#0077BB",
    "tile_wise": "#EE7733",
    "dense": "#7b8794",
    "block_sparse": "#009988",
    "vector_wise": "#EE3377",
    "unstructured": "#33BBEE",
    "tew": "#CC3311",
    "tvw": "#332288",
}
SPARE_COLOURS = ("#999933", "#882255", "#117733", "#AA4499")
SCHEME_MARKERS = {
    "traced": "o",
    "tile_wise": "D",
    "dense": "s",
    "block_sparse": "P",
    "vector_wise": "v",
    "unstructured": "X",
    "tew": "*",
    "tvw": "p",
}
SPARE_MARKERS = ("^", "h", "d", "8")

SERIES_COLOURS = ("#0077BB", "#EE7733", "#009988", "#CC3311", "#33BBEE", "#EE3377", "#332288", "#999933")
SERIES_MARKERS = ("o", "D", "^", "v", "s", "P", "X", "*")
"""Series without colours of their own, in their order; the markers tell them apart without colour."""

PHASE_COLOURS = {
    "forward": "#332288",
    "backward_data": "#44AA99",
    "backward_weight": "#DDAA33",
    "other": "#9aa5b1",
    "sparsify": "#CC6677",
}

ENERGY_COLOURS = {
    "tensor_core": "#0077BB",
    "metadata": "#33BBEE",
    "cuda_core": "#009988",
    "shared_memory": "#EE7733",
    "l2": "#CC3311",
    "dram": "#EE3377",
    "static": "#BBBBBB",
}

STALL_COLOURS = {
    "busy": "#1b3a57",
    "metadata": "#b34700",
    "shared_memory": "#e8771a",
    "register_file": "#fdae6b",
    "selector": "#f9c9a0",
    "math_latency": "#fdd9b5",
    "noc_queue": "#01564e",
    "l2_queue": "#35978f",
    "l2_latency": "#9fd8cf",
    "dram_queue": "#54278f",
    "dram_row": "#8a7fc0",
    "dram_bus": "#c7c3e3",
    "cta_launch": "#4a4a4a",
    "fill_drain": "#7a7a7a",
    "split_k_wait": "#9c9c9c",
    "epilogue": "#bdbdbd",
    "imbalance": "#ececec",
    "other": "#ffffff",
}
STALL_HATCHES = {"imbalance": "/////"}
"""SMs that idle while others still work are no shade of anything else: seen in print, and next to `other`."""
LAUNCH_COLOUR = "#c9a66b"
"""Time before a kernel runs: no stall of the machine."""


def scheme_colour(scheme: str, schemes: Sequence[str]) -> str:
    """The colour of a scheme; those without one of their own take the spare colours in the order of `schemes`."""
    return SCHEME_COLOURS.get(scheme) or _spare(scheme, schemes, SPARE_COLOURS)


def scheme_marker(scheme: str, schemes: Sequence[str]) -> str:
    """The marker of a scheme, so that colour is never the only difference."""
    return SCHEME_MARKERS.get(scheme) or _spare(scheme, schemes, SPARE_MARKERS)


def new_figure(height_in: float) -> Figure:
    """An empty figure of the common width that lays itself out so that nothing overlaps; call it inside `figure_style`."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def legend_above(figure: Figure, handles: Sequence[Patch], columns: int) -> None:
    """A legend over the whole width, outside the axes, so that it never covers data."""
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)


def is_dark(colour: str) -> bool:
    """True where white text reads better than black on `colour` (#rrggbb), by relative luminance."""
    weighted = zip((0.2126, 0.7152, 0.0722), (1, 3, 5), strict=True)
    return sum(weight * math.pow(int(colour[i : i + 2], 16) / 255, 2.2) for weight, i in weighted) < 0.3


def stall_patch(name: str, label: str) -> Patch:
    """A stall in a legend, as `stack_segments` draws it."""
    edge = RULE if name in (*STALL_HATCHES, "other") else "white"
    return Patch(facecolor=STALL_COLOURS[name], edgecolor=edge, hatch=STALL_HATCHES.get(name), label=label)


def stack_segments(
    axes: Axes, widths: pd.Series[float], left: pd.Series[float], name: str, colour: str, *, height: float, least_labelled: float
) -> None:
    """One segment for each bar of a horizontal stack, hatched where STALL_HATCHES says so; those wide enough get their number."""
    axes.barh(widths.index, widths, left=left, height=height, color=colour, edgecolor="white", linewidth=0.4)
    hatch = STALL_HATCHES.get(name)
    if hatch is not None:
        axes.barh(widths.index, widths, left=left, height=height, fill=False, edgecolor=RULE, linewidth=0, hatch=hatch)
    for row, (start, width) in enumerate(zip(left, widths, strict=True)):
        if width >= least_labelled:
            label_segment(axes, start, width, row, f"{width:.0f}", colour, hatched=hatch is not None)


def label_segment(axes: Axes, left: float, width: float, row: float, text: str, colour: str, *, hatched: bool = False) -> None:
    """Write inside a bar's segment, on a plain ground where it is hatched; the caller has checked that it is wide enough."""
    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2} if hatched else None
    ink = "white" if is_dark(colour) else INK
    axes.text(left + width / 2, row, text, ha="center", va="center_baseline", fontsize=6.5, color=ink, bbox=box)


def end_label(axes: Axes, end: float, row: float, text: str, weight: str = "normal", gap_points: float = 4) -> None:
    """Write just right of a bar or point, on white, so that no line crosses the text."""
    label = axes.annotate(
        text, (end, row), (gap_points, 0), textcoords="offset points", va="center", fontsize=7, color=INK, fontweight=weight
    )
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    label.set_zorder(2.5)


def label_beside(axes: Axes, end: float, row: float, text: str) -> None:
    """Write beside the end of a bar that starts at 0: right of one to the right, left of one to the left."""
    offset, side = (4, "left") if end >= 0 else (-4, "right")
    axes.annotate(text, (end, row), (offset, 0), textcoords="offset points", va="center", ha=side, fontsize=6.5, color=INK)


@contextmanager
def figure_style() -> Iterator[None]:
    """The style sheet, for the time of drawing and saving one figure; nobody else's settings are touched."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rc_file(STYLE_FILE, use_default_template=False)
        yield


def save_figure(figure: Figure, stem: Path, *, png: bool = True) -> tuple[Path, ...]:
    """Write `stem`.svg, and `stem`.png if asked for, without dates or versions in them, so that equal figures are equal files."""
    svg = stem.with_suffix(".svg")
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    if not png:
        return (svg,)
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    return svg, stem.with_suffix(".png")


def inline_svg(svg: str, prefix: str, description: str) -> str:
    """An SVG file's text as an element for an HTML page.

    Ids get `prefix`, so that figures on one page do not share clip paths; comments, which repeat every label, go.
    `description` must be escaped already.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r'<svg ([^>]*?)\bheight="[^"]*"', r"<svg \1", body, count=1)
    body = re.sub(r'<svg ([^>]*?)\bwidth="[^"]*"', rf'<svg role="img" aria-label="{description}" \1', body, count=1)
    return re.sub(r"\n\s*\n", "\n", body).strip()


def _spare(scheme: str, schemes: Sequence[str], choices: Sequence[str]) -> str:
    unnamed = [name for name in schemes if name not in SCHEME_COLOURS]
    return choices[unnamed.index(scheme) % len(choices)]
