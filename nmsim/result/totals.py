"""What do the rows of a result add up to: per phase, and per scheme.

Sums run left to right in a fixed order (rows as given, phases in the order of PHASES), so that whoever adds the parts again
gets the total to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nmsim.errors import PhysicsError
from nmsim.result.rows import PHASES, KernelRow, PhaseTotal, SchemeTotal


def phase_totals(rows: Sequence[KernelRow]) -> tuple[PhaseTotal, ...]:
    """Five totals (every one of PHASES, zeros included) for each scheme, schemes in the order they first occur.

    PhysicsError for a row of no known phase: it would be missing from the totals.
    """
    parts: dict[str, dict[str, list[KernelRow]]] = {}
    for row in rows:
        if row.phase not in PHASES:
            raise PhysicsError(f"{row.gemm_id} ({row.scheme}) has the phase {row.phase!r}, which no total counts")
        parts.setdefault(row.scheme, {phase: [] for phase in PHASES})[row.phase].append(row)
    return tuple(
        PhaseTotal(
            phase=phase,
            scheme=scheme,
            cycles=_left_to_right(row.cycles for row in members),
            time_us=_left_to_right(row.time_us for row in members),
            energy_j=_left_to_right(row.energy_j for row in members),
        )
        for scheme, phases in parts.items()
        for phase, members in phases.items()
    )


def scheme_totals(rows: Sequence[KernelRow]) -> dict[str, SchemeTotal]:
    """The sum of each scheme's phase totals, with its speed-ups: ratios of times, launches and passes included."""
    by_scheme: dict[str, list[PhaseTotal]] = {}
    for part in phase_totals(rows):
        by_scheme.setdefault(part.scheme, []).append(part)
    time_us = {scheme: _left_to_right(part.time_us for part in parts) for scheme, parts in by_scheme.items()}
    return {
        scheme: SchemeTotal(
            cycles=_left_to_right(part.cycles for part in parts),
            time_us=time_us[scheme],
            energy_j=_left_to_right(part.energy_j for part in parts),
            speedup_vs_dense=speedup(time_us.get("dense"), time_us[scheme]),
            speedup_vs_tile_wise=speedup(time_us.get("tile_wise"), time_us[scheme]),
        )
        for scheme, parts in by_scheme.items()
    }


def speedup(reference_us: float | None, time_us: float | None) -> float | None:
    """`reference_us / time_us`; None where either is missing or takes no time, so that no ratio means anything."""
    return reference_us / time_us if reference_us and time_us else None


def _left_to_right(values: Iterable[float]) -> float:
    """Plain floating-point addition in order; the built-in `sum` compensates from Python 3.12 on, which readers may not."""
    total = 0.0
    for value in values:
        total += value
    return total
