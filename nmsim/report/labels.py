"""How names and numbers are written for people: units, prefixes, shortened module names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

PHASE_NAMES = {
    "forward": "forward",
    "backward_data": "backward data",
    "backward_weight": "backward weight",
    "other": "other operators",
    "sparsify": "sparsify passes",
}
SCHEME_NAMES = {"tile_wise": "tile-wise", "vector_wise": "vector-wise", "tew": "TEW", "tvw": "TVW"}
"""Schemes whose name is written differently from their key."""

MISSING = "–"
_SPELLINGS = {
    "l2": "L2",
    "dram": "DRAM",
    "noc": "NoC",
    "cta": "CTA",
    "cuda": "CUDA",
    "fill drain": "fill and drain",
    "split k": "split-K",
}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def scheme_name(scheme: str) -> str:
    """`tile_wise` -> `tile-wise`; a scheme of no special name as it is."""
    return SCHEME_NAMES.get(scheme, scheme.replace("_", " "))


def phase_name(phase: str) -> str:
    """`backward_data` -> `backward data`."""
    return PHASE_NAMES.get(phase, phase)


def unit_name(unit: str) -> str:
    """A unit, stall or bound as the field writes it: `l2_queue` -> `L2 queue`."""
    words = unit.replace("_", " ")
    return re.sub(r"\b(" + "|".join(_SPELLINGS) + r")\b", lambda match: _SPELLINGS[match[0]], words)


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits and no exponent: 0.0123, 1.23, 12.3, 123, 1230."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    decimals = max(digits - 1 - _order(rounded), 0)
    return f"{rounded:.{decimals}f}"


def si(value: float, unit: str) -> str:
    """A quantity with the prefix that leaves one to three digits before the point: `1.23 mJ`, `45.6 µs`."""
    scale, prefix = si_scale(value)
    return f"{significant(value / scale)} {prefix}{unit}"


def si_scale(largest: float) -> tuple[float, str]:
    """The factor and prefix for an axis that reaches `largest`, of three digits after rounding."""
    size = abs(float(f"{largest:.3g}"))
    return next(((scale, prefix) for scale, prefix in _PREFIXES if size >= scale), _PREFIXES[-1] if size else (1.0, ""))


def count_text(value: float) -> str:
    """A count with a prefix: `1.23 M`."""
    return si(value, "").rstrip()


def time_text(time_us: float) -> str:
    """Microseconds with a readable prefix."""
    return si(time_us * 1e-6, "s")


def times(ratio: float | None) -> str:
    """`1.42×`, or a dash where there is no ratio."""
    return MISSING if ratio is None else f"{ratio:.2f}×" if ratio < 100 else f"{ratio:.0f}×"


def density_text(density: float) -> str:
    """A share of weights as a fraction where it is one of small numbers: `1/4`, `3/8`, otherwise a percentage."""
    fraction = Fraction(density).limit_denominator(64)
    if abs(float(fraction) - density) > 1e-9:
        return percent_text(density)
    return "1" if fraction == 1 else f"{fraction.numerator}/{fraction.denominator}"


def percent_text(share: float) -> str:
    """A share of one as whole percents, with one decimal below ten."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def grouped(count: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(count):,}".replace(",", "\u2009")


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters: a dotted name loses whole parts in the middle, then any text its middle characters.

    A module's head says where it is and its tail what it is.
    """
    if len(text) <= limit:
        return text
    parts = text.split(".")
    for first in range(2, len(parts)):
        shorter = f"{parts[0]}…{'.'.join(parts[first:])}"
        if len(shorter) <= limit:
            return shorter
    head = (limit - 1) // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, cut at the end: for lists of settings, whose first words say most."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def common_name(modules: Sequence[str]) -> str:
    """One name for modules that differ in numbers only: `layer.0.query`, `layer.1.query` -> `layer.*.query`."""
    parts = [module.split(".") for module in modules]
    return ".".join(column[0] if len(set(column)) == 1 else numberless(column[0]) for column in zip(*parts, strict=True))


def numberless(name: str) -> str:
    """`layer.11.query` -> `layer.*.query`: what modules in a repeated block have in common."""
    return re.sub(r"\d+", "*", name)


def _order(value: float) -> int:
    """The decimal exponent of a number that is not 0."""
    return int(f"{value:e}".split("e")[1])
