"""The tile-wise baseline of a trace: what tile-wise pruning would keep of the same master weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from numpy.typing import NDArray

from nmsim.sparsity.tile_wise import DEFAULT_TILE_WIDTH, plan_network
from nmsim.workload.gemm import MaskRecord
from nmsim.workload.trace import TileWisePlan


def own_density(masks: Iterable[MaskRecord]) -> str | None:
    """The density of the pattern that all masks of a trace share, such as "1/2"; None where there is none or more than one."""
    found = {check.pattern.density for record in masks for check in record.checks.values()}
    return str(found.pop()) if len(found) == 1 else None


def tile_wise_plans(
    weights: Mapping[str, NDArray[Any]], own: str | None, asked: Sequence[str], least_share: float = 0.0
) -> dict[str, dict[str, TileWisePlan]]:
    """density -> module -> plan of the weights [K, N], ranked over all of them, at the densities asked for and the trace's own.

    Each layer keeps at least `least_share` of its elements, or the density where that is less.
    """
    if not weights:
        return {}
    densities = dict.fromkeys((*asked, own) if own is not None else asked)
    return {
        density: {
            module: TileWisePlan(DEFAULT_TILE_WIDTH, columns, rows)
            for module, (columns, rows) in plan_network(weights, share, DEFAULT_TILE_WIDTH, least_share=min(least_share, share)).items()
        }
        for density, share in ((density, float(Fraction(density))) for density in densities)
    }
