"""`nmsim gemm --tile-wise`: one what-if GEMM whose weight is pruned tile-wise, beside its dense form.

TW runs the tiles as gathered dense GEMMs; TVW besides compresses each tile to a pattern of the hardware; TEW adds the elements
that it restores, as a sparse product on the CUDA cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.mapping.lower import lower_dense
from nmsim.mapping.problem import Problem
from nmsim.mapping.tile_wise import even_plan, lower_tile_vector_wise, lower_tile_wise
from nmsim.run.choice import RunOptions, best_kernel, under_power_cap
from nmsim.run.kernel import KernelRun
from nmsim.run.native import native_pattern
from nmsim.run.single import GemmResult, gemm_result
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import Gemm


@dataclass(frozen=True)
class TileWiseShape:
    """What tile-wise pruning keeps of a weight W[k, n], evenly spread."""

    tile: int
    """Columns of a tile."""
    keep_n: int
    """Columns kept."""
    keep_k: int
    """Rows kept in each tile."""
    streams: bool = False
    """A launch a tile, as the authors' streams have it, instead of one for all."""


def simulate_tile_wise(spec: GpuSpec, gemm: Gemm, shape: TileWiseShape, pattern: NMPattern | None, options: RunOptions) -> GemmResult:
    """Simulate the kept tiles of a forward GEMM, compressed to `pattern` besides where one is given, and the dense GEMM."""
    for name, kept, whole in (("--keep-n", shape.keep_n, gemm.n), ("--keep-k", shape.keep_k, gemm.k)):
        if not 1 <= kept <= whole:
            raise InputError(f"must be between 1 and {whole}, of which it keeps some", path=name, value=kept)
    if shape.tile < 1:
        raise InputError("a tile is at least one column wide", path="--tile", value=shape.tile)
    if gemm.l > 1:
        raise InputError("tile-wise pruning is of a layer's weight, not of a batch", path="--l", value=gemm.l)
    plan = even_plan(gemm.k, gemm.n, shape.tile, shape.keep_n, shape.keep_k)
    problem = lower_tile_wise(gemm, plan)
    notes: tuple[str, ...] = (f"{len(plan.rows)} tiles of {shape.keep_k} rows, {shape.keep_n} columns in all",)
    if pattern is not None:
        native = native_pattern(spec, gemm.dtype, pattern, shape.keep_k)
        notes += (native.reason,) if native.reason else ()
        if native.pattern is not None:
            problem = lower_tile_vector_wise(gemm, plan, native.pattern, spec.metadata_code(gemm.dtype, native.pattern))
    dense = _run(spec, lower_dense(gemm), options)
    run = _run(spec, problem, options)
    more = len(plan.rows) - 1 if shape.streams else 0
    return gemm_result(spec, gemm, run, dense, options, notes, "tile-wise", more_launches=more)


def _run(spec: GpuSpec, problem: Problem, options: RunOptions) -> KernelRun:
    return under_power_cap(spec, best_kernel(spec, problem, options), options)
