"""Memory-bound passes as kernels: element-wise operators, mask search, compress, transposition, optimiser steps.

A pass reads some bytes, does some arithmetic on the CUDA cores and writes some bytes. It runs on the same machine as the
GEMMs: each CTA walks over its part of the input in k-tiles and writes its part of the output in its epilogue.
"""

from __future__ import annotations

import numpy as np

from nmsim.mapping.layout import Layout
from nmsim.mapping.plan import CTA_FIELDS, K0, K1, M0, M1, N1, SLICES, TILE, KernelPlan, MainloopKey
from nmsim.mapping.problem import Tensor, View
from nmsim.rules import box

CTA_BYTES = 65536
"""Input (or, for a pass that mostly writes, output) bytes of one CTA: a grid-stride loop of a few iterations."""
K_TILE_BYTES = 8192
"""Bytes in flight per CTA and stage: 256 threads x 2 loads of 16 bytes."""
ROW_BYTES = 256
OCCUPANCY = 4
STAGES = 4


def plan_stream(name: str, bytes_read: int, bytes_written: int, flops: int, block_bytes: int, interleave_bytes: int) -> KernelPlan:
    """A pass over `bytes_read` in and `bytes_written` out, all different addresses, `flops` spread evenly over its k-tiles."""
    ctas = max(1, -(-max(bytes_read, bytes_written) // CTA_BYTES))
    rows_read = max(1, -(-bytes_read // ROW_BYTES))
    rows_written = max(1, -(-bytes_written // ROW_BYTES))
    source, target = Tensor("source", rows_read, ROW_BYTES), Tensor("target", rows_written, ROW_BYTES)
    layout = Layout((source, target), block_bytes, interleave_bytes)
    table = np.zeros((ctas, CTA_FIELDS), dtype=np.int64)
    index = np.arange(ctas, dtype=np.int64)
    table[:, M0], table[:, M1] = _share(rows_written, ctas)
    table[:, N1] = ROW_BYTES
    table[:, K0], table[:, K1] = _share(rows_read, ctas)
    table[:, TILE], table[:, SLICES] = index, 1
    rows_per_k_tile = K_TILE_BYTES // ROW_BYTES
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
        copy_bytes=K_TILE_BYTES,
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


def _share(rows: int, ctas: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """First and last + 1 row of each CTA; with fewer rows than CTAs a row is shared (a parameter, a partial result)."""
    index = np.arange(ctas, dtype=np.int64)
    first = index * rows // ctas
    return first, np.maximum(first + 1, (index + 1) * rows // ctas)
