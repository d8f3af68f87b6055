"""Which operand the CTAs of a thread-block cluster fetch together: multicast, which spares the L2 and not the SMs.

CTAs of a cluster are neighbours in the output, so they read the same tile of one operand. Each asks the L2 for its share of
that tile, and the crossbar hands every piece to all of them. Libraries shape clusters so that the larger of the two operand tiles
is the shared one; where too few tiles lie side by side for that, the other one is.

Not modelled: that CTAs of a cluster start and end together, and the odd CTA at an edge, which here has a share like the rest.
"""

from __future__ import annotations

from nmsim.mapping.plan import MainloopKey
from nmsim.mapping.problem import Group
from nmsim.units import element_bits


def shared_side(key: MainloopKey, group: Group, cluster: int) -> int | None:
    """Side of the output whose operand is shared: 0 that of the rows m, 1 that of the columns n, None where no tile has a neighbour."""
    of_m, of_n = tile_bytes(key)
    beside = -(-group.n // key.cta_tile[1]), -(-group.m // key.cta_tile[0])
    for side in (0, 1) if of_m >= of_n else (1, 0):
        if 1 < cluster <= beside[side]:
            return side
    return None


def l2_bytes_per_k_tile(key: MainloopKey, group: Group, cluster: int) -> float:
    """What one CTA asks the L2 for, per k-tile, on average."""
    side = shared_side(key, group, cluster)
    return key.copy_bytes - (0.0 if side is None else tile_bytes(key)[side] * (1 - 1 / cluster))


def tile_bytes(key: MainloopKey) -> tuple[int, int]:
    """Bytes of a k-tile of operand A, with its metadata, and of B."""
    of_b = key.cta_tile[1] * key.cta_tile[2] * element_bits(key.dtype) // 8
    return key.copy_bytes - of_b, of_b
