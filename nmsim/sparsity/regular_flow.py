"""The cheapest choice of exactly `quota` elements in every row and column of a square block: a minimum-cost flow.

Each row sends `quota` units, each column takes `quota`, an element carries one unit or none at its cost. Units are added one
by one along the cheapest path of the residual network (successive shortest paths, Bellman-Ford since taking an element back
has the opposite cost), which leaves every intermediate flow the cheapest of its size, whatever the signs of the costs.

Costs are whole numbers inside, 52 bits below the largest of a block: with rounded sums, a cycle of no cost could seem to pay, and
the search would go round it for ever. That is exact for single precision over 28 binades, and elsewhere as exact as its sums.

Compiled by numba at the first call; without numba the same function runs, some hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COST_BITS = 52
"""A path takes fewer than 2 x 64 steps, so its cost stays below 2 ** 59."""
_UNREACHED = 1 << 61


def cheapest_regular(costs: NDArray[np.float64], quota: int) -> NDArray[np.bool_]:
    """Costs [blocks, m, m] -> the choice bool [blocks, m, m] of least cost with exactly `quota` <= m in each row and column."""
    chosen = np.zeros(costs.shape, dtype=np.bool_)
    _, exponents = np.frexp(np.abs(costs).max(axis=(1, 2), keepdims=True, initial=0.0))
    _compiled()(np.rint(np.ldexp(costs, _COST_BITS - exponents)).astype(np.int64), quota, _UNREACHED, chosen)
    return chosen


@cache
def _compiled() -> Callable[..., None]:
    if find_spec("numba") is None:
        return _route
    import numba

    compile_function: Any = numba.njit
    try:
        compiled: Callable[..., None] = compile_function(cache=True)(_route)
    except RuntimeError:
        # Neither the package's folder nor a user's cache folder can be written: then it is compiled in each process (a second).
        compiled = compile_function(_route)
    return compiled


def _route(costs: Any, quota: int, unreached: Any, chosen: Any) -> None:
    blocks, m, _ = costs.shape
    to_row, to_column = np.empty(m, np.int64), np.empty(m, np.int64)
    column_before, row_before = np.empty(m, np.int64), np.empty(m, np.int64)
    row_waits, column_waits = np.empty(m, np.bool_), np.empty(m, np.bool_)
    room = np.empty(m, np.int64)
    for block in range(blocks):
        cost, taken = costs[block], chosen[block]
        room[:] = quota
        for unit in range(m * quota):
            source = unit // quota
            to_row[:] = unreached
            to_column[:] = unreached
            to_row[source] = 0
            row_waits[:] = False
            column_waits[:] = False
            row_waits[source] = True
            improved = True
            while improved:
                improved = False
                for row in range(m):
                    if not row_waits[row]:
                        continue
                    row_waits[row] = False
                    for column in range(m):
                        if not taken[row, column] and to_row[row] + cost[row, column] < to_column[column]:
                            to_column[column] = to_row[row] + cost[row, column]
                            row_before[column] = row
                            column_waits[column] = True
                for column in range(m):
                    if not column_waits[column]:
                        continue
                    column_waits[column] = False
                    for row in range(m):
                        if taken[row, column] and to_column[column] - cost[row, column] < to_row[row]:
                            to_row[row] = to_column[column] - cost[row, column]
                            column_before[row] = column
                            row_waits[row] = True
                            improved = True
            sink = -1
            for column in range(m):
                if room[column] > 0 and (sink < 0 or to_column[column] < to_column[sink]):
                    sink = column
            room[sink] -= 1
            row = row_before[sink]
            taken[row, sink] = True
            while row != source:
                back = column_before[row]
                taken[row, back] = False
                row = row_before[back]
                taken[row, back] = True
