"""Draw the two figures of docs/systolic.md: `python docs/images/systolic_figures.py` rewrites them beside this file."""

from __future__ import annotations

from pathlib import Path

from nmsim.rules.systolic import Overlap, interval_cycles, load_cycles, skew_cycles

INK, GREY, BLUE, ORANGE, GREEN = "#222222", "#8a8a8a", "#4477aa", "#ee7733", "#228833"
FACE = 'font-family="Helvetica, Arial, sans-serif"'


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "middle", colour: str = INK, weight: str = "normal") -> str:
    """One line of words."""
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> str:
    """A rectangle with a thin edge."""
    paint = f'fill="{fill}" fill-opacity="{opacity}" stroke="{INK}" stroke-width="0.8"'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {paint}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """A line with a head in one of the three colours."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="2.5" marker-end="url(#{colour[1:]})"/>'


def document(width: int, height: int, title: str, parts: list[str]) -> str:
    """The whole SVG."""
    markers = "".join(
        f'<marker id="{colour[1:]}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for colour in (BLUE, ORANGE, GREEN)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" {FACE}>'
    ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{title}</title><defs>{markers}</defs>", ground, *parts, "</svg>\n"])


def dataflows() -> str:
    """Three arrays side by side: what stays, what streams, where results leave."""
    panels = (
        ("weight-stationary (ws)", "B stays", ("k", "n"), BLUE, ("A: m rows,", "one a cycle"), ORANGE, None),
        ("input-stationary (is)", "A stays", ("k", "m"), ORANGE, ("B: n columns,", "one a cycle"), BLUE, None),
        ("output-stationary (os)", "D stays", ("m", "n"), GREEN, ("A: k columns,", "one a cycle"), ORANGE, "B: k rows, one a cycle"),
    )
    cell, side, parts = 34, 4, []
    for number, (name, stays, (down, across), held, streamed, colour, from_top) in enumerate(panels):
        left, top = 130 + number * 300, 110
        right, bottom = left + side * cell, top + side * cell
        parts += [box(left + i * cell, top + j * cell, cell - 4, cell - 4, held, 0.35) for i in range(side) for j in range(side)]
        middle, centre = (left + right) / 2 - 2, (top + bottom) / 2
        parts += [text(middle, 28, name, size=16, weight="bold"), box(middle - 34, centre - 15, 68, 26, "#ffffff")]
        parts += [text(middle, centre + 4, stays, size=16, weight="bold")]
        parts += [text(middle, 46, f"rows: {down}, columns: {across}", size=12, colour=GREY)]
        for j in range(side):  # the skew: each row starts a cycle after the one above
            start = left - 34 - 6 * j
            parts.append(arrow(start, top + j * cell + 15, left - 5, top + j * cell + 15, colour))
        parts += [
            text(left - 62, centre - 6 + 17 * line, words, size=12, anchor="end", colour=colour) for line, words in enumerate(streamed)
        ]
        for i in range(side):
            x = left + i * cell + 15
            if from_top is not None:
                parts.append(arrow(x, top - 18 - 5 * i, x, top - 5, BLUE))
            else:
                parts.append(arrow(x, bottom, x, bottom + 38, GREEN))
                parts.append(arrow(x, top - 26, x, top - 5, held))
        if from_top is not None:
            parts += [
                text(middle, top - 40, from_top, size=12, colour=BLUE),
                text(middle, bottom + 56, "D leaves when done", size=12, colour=GREEN),
            ]
        else:
            parts += [text(middle, top - 36, f"load: {side} rows, one a cycle", size=12, colour=held)]
            parts += [text(middle, bottom + 56, "partial sums of D", size=12, colour=GREEN)]
    return document(930, 330, "What stays and what streams in the three dataflows", parts)


def overlaps(rows: int = 4, columns: int = 4, vectors: int = 8, folds: int = 3) -> str:
    """Three folds of a weight-stationary array in time: load, stream and skew under each overlap, to scale."""
    scale, height, parts = 9.5, 24, []
    load, skew = load_cycles("ws", rows), skew_cycles(rows, columns)
    y = 50
    names: tuple[tuple[Overlap, str], ...] = (("none", "array empty first"), ("fold", "row by row"), ("full", "PE by PE"))
    for overlap, meaning in names:
        interval = interval_cycles(overlap, load, vectors, rows, columns)
        parts += [
            text(112, y + 36, overlap, size=16, anchor="end", weight="bold"),
            text(112, y + 54, meaning, size=12, anchor="end", colour=GREY),
        ]
        for fold in range(folds):
            start, top = load + fold * interval, y + fold * (height + 3)
            loaded = start - load if overlap == "none" or fold == 0 else start - interval
            for begin, length, colour, opacity, label in (
                (loaded, load, BLUE, 0.75, "load"), (start, vectors, ORANGE, 0.75, "stream"), (start + vectors, skew, GREEN, 0.35, "skew"),
            ):  # fmt: skip
                parts.append(box(130 + begin * scale, top, length * scale, height, colour, opacity))
                parts.append(text(130 + (begin + length / 2) * scale, top + 16, label, size=11))
        total = load + (folds - 1) * interval + vectors + skew
        end = 130 + total * scale
        parts.append(f'<line x1="{end}" y1="{y - 6}" x2="{end}" y2="{y + folds * (height + 3)}" stroke="{INK}" stroke-dasharray="4 3"/>')
        parts.append(text(end + 6, y + folds * (height + 3) - 10, f"{total} cycles", anchor="start", weight="bold"))
        y += folds * (height + 3) + 28
    title = f"{folds} folds of {vectors} vectors on {rows} x {columns} PEs, weight-stationary"
    return document(780, y - 5, title, [text(130, 26, f"{title}; time runs to the right", anchor="start", colour=GREY), *parts])


if __name__ == "__main__":
    folder = Path(__file__).parent
    (folder / "systolic_dataflows.svg").write_text(dataflows(), encoding="utf-8")
    (folder / "systolic_overlap.svg").write_text(overlaps(), encoding="utf-8")
