"""Memory-bound passes as kernels: element-wise operators, mask search, compress, transposition, optimiser steps.

A pass reads some bytes, does some arithmetic on the CUDA cores and writes some bytes. It runs on the same machine as the
GEMMs: each CTA walks over its part of the input in k-tiles and writes its part of the output in its epilogue. A small pass is spread
over all SMs, by its bytes or its flops, whichever makes more CTAs; where flops bound a pass, every SM gets as many of them.
"""

from __future__ import annotations

import numpy as np

from nmsim.mapping.layout import Layout
from nmsim.mapping.plan import CTA_FIELDS, K0, K1, M0, M1, N1, SLICES, TILE, KernelPlan, MainloopKey
from nmsim.mapping.problem import Tensor, View
from nmsim.rules import box

CTA_BYTES = 65536
"""Input (or, for a pass that mostly writes, output) bytes of one CTA: a grid-stride loop of a few iterations."""
CTA_FLOPS = 16384
"""Flops that are worth a CTA of their own, while SMs are idle: about as long as one takes to start (128 cycles of 64 FMA)."""
FLOPS_PER_BYTE = 8
"""Fewer flops a byte than these are hidden behind the DRAM on any machine (9.6 on an A100, 17 on a V100, 20 on an H100)."""
K_TILE_BYTES = 8192
"""Bytes in flight per CTA and stage: 256 threads x 2 loads of 16 bytes."""
ROW_BYTES = 256
OCCUPANCY = 4
STAGES = 4


def plan_stream(
    name: str, bytes_read: int, bytes_written: int, flops: int, block_bytes: int, interleave_bytes: int, sms: int = 0
) -> KernelPlan:
    """A pass over `bytes_read` in and `bytes_written` out, all different addresses, `flops` spread evenly over its k-tiles.

    `sms` is how many SMs a small pass is spread over; 0 for CTAs of CTA_BYTES, however few.
    """
    nbytes = max(bytes_read, bytes_written)
    flop_bound = flops > FLOPS_PER_BYTE * nbytes
    least = max(-(-nbytes // K_TILE_BYTES), -(-flops // CTA_FLOPS))
    ctas = max(1, -(-nbytes // CTA_BYTES), min(least, sms * OCCUPANCY))
    if flop_bound and ctas > sms > 0:
        ctas = -(-ctas // sms) * sms
    together = 1 if flop_bound else max(1, block_bytes // ROW_BYTES)
    rows_read = max(1, -(-bytes_read // ROW_BYTES))
    rows_written = max(1, -(-bytes_written // ROW_BYTES))
    source, target = Tensor("source", rows_read, ROW_BYTES), Tensor("target", rows_written, ROW_BYTES)
    layout = Layout((source, target), block_bytes, interleave_bytes)
    table = np.zeros((ctas, CTA_FIELDS), dtype=np.int64)
    index = np.arange(ctas, dtype=np.int64)
    table[:, M0], table[:, M1] = _share(rows_written, ctas, together)
    table[:, N1] = ROW_BYTES
    table[:, K0], table[:, K1] = _share(rows_read, ctas, together)
    table[:, TILE], table[:, SLICES] = index, 1
    rows_per_cta = int((table[:, K1] - table[:, K0]).max())
    rows_per_k_tile = -(-rows_per_cta // -(-rows_per_cta * ROW_BYTES // K_TILE_BYTES))  # so that all CTAs have as many k-tiles
    k_tiles = int((-(-(table[:, K1] - table[:, K0]) // rows_per_k_tile)).sum())
    read = layout.view(View("source", box.COLUMNS, 1, 8))
    written = layout.view(View("target", box.ROWS, 0, 8))
    key = MainloopKey(
        kind="stream",
        dtype="fp32",
        pattern="dense",
        cta_tile=(1, ROW_BYTES, rows_per_k_tile),
        warp_tile=(1, ROW_BYTES),
        stages=STAGES,
        mma_shape=(1, 1, 1),
        copy_bytes=rows_per_k_tile * ROW_BYTES,
        stream_flops=-(-flops // k_tiles),
    )
    return KernelPlan(
        name=name,
        mainloop=key,
        occupancy=OCCUPANCY,
        occupancy_limiter="registers",
        ctas=table,
        operands=read[None, None, :],
        outputs=written[None, :],
        tensors=layout.tensors,
        gather=layout.gather,
        accumulate=np.zeros(1, dtype=np.int64),
        blocks=layout.blocks,
        dense_equivalent_macs=0,
        executed_macs_per_k_tile=0,
        codes_per_k_tile=0,
        strip_rows=int((table[:, M1] - table[:, M0]).max()),
    )


def _share(
    rows: int, ctas: int, together: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """First and last + 1 row of each CTA; with fewer rows than CTAs a row is shared (a parameter, a partial result).

    `together` rows of an L2 block stay with one CTA where there are enough of them: a neighbour that needs the rest of a block when
    this one ends would fetch it from DRAM once more, which threads that stride over the tensor together do not.
    """
    unit = together if rows >= ctas * together else 1
    index, units = np.arange(ctas, dtype=np.int64), -(-rows // unit)
    first = index * units // ctas
    return first * unit, np.minimum(np.maximum(first + 1, (index + 1) * units // ctas) * unit, rows)
