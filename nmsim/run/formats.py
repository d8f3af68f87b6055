"""Other sparse formats as baselines: what the layers that tile-wise prunes would cost at the same density in another form.

=================  ================================================================================================
`block_sparse`     32 x 32 blocks of W, drawn at random at the density, the empty ones skipped: on the tensor cores
`vector_wise`      a fixed number kept of each 16 elements along the reduction (balanced): on the CUDA cores
`unstructured`     single elements anywhere, compressed rows: on the CUDA cores
`tew`              tiles of 5 % less, and those 5 % restored as single elements on the CUDA cores (Guo et al., SC20)
`tvw`              tile-wise tiles of twice the density, 2:4 along their rows in `forward` (Guo et al., arXiv 2402.10876)
=================  ================================================================================================

All keep the same share of the weights, or say what they keep instead. Only their densities are recorded, so that which blocks and
elements are kept is an assumption; of a step that was trained with TEW the restored share of each layer is recorded, and `traced`
runs it as `tew` does. What the CUDA cores do is a bound (`nmsim.run.cuda_cores`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.block_sparse import BLOCK, lower_block_sparse
from nmsim.mapping.tile_wise import lower_tile_vector_wise, thinned
from nmsim.run.cuda_cores import CudaCoreProduct, on_cuda_cores, weight_shape
from nmsim.run.native import native_pattern
from nmsim.run.schemes import Lowered, compressed, dense_product, in_tiles, lower, reduction_of, tile_wise_density
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.workload.gemm import Gemm
from nmsim.workload.trace import TileWisePlan, Trace

VECTOR = 16
"""Length of a vector: the vector-wise baseline of Guo et al., SC20."""
RESTORED = Fraction(1, 20)
"""Share of the weights that TEW restores: the default of the authors' BERT scripts (clevercool/TileSparsity)."""
ALONG_ROWS = NMPattern(2, 4)
"""What TVW keeps of the rows of a tile."""
INDEX_BYTES = 4
"""Of an element of a compressed row: an INT32 column, as cuSPARSE has it."""
FALLS_BACK = ("tile_wise", "block_sparse", "tew", "tvw")
"""Schemes on tensor cores, each product of which runs dense where its kernels and passes take longer. Formats that have no tensor-core
kernels would nearly always be dense then, and are shown as slow as they are; what was traced runs as it was trained."""


@dataclass(frozen=True, eq=False)
class Formatted:
    """One GEMM in a format: a part on the tensor cores, one on the CUDA cores, or both."""

    reason: str
    tensor: Lowered | None = None
    cuda: CudaCoreProduct | None = None


def lower_format(spec: GpuSpec, trace: Trace, gemm: Gemm, scheme: str) -> Formatted:
    """`gemm` in the format that `scheme` names; dense where the layer is not pruned. `traced` is a layer recorded as TEW."""
    plan = trace.tile_wise.get(tile_wise_density(trace), {}).get(gemm.module)
    tile_wise = lower(spec, trace, gemm, "tile_wise")
    if plan is None or not tile_wise.ran_sparse:
        return Formatted(tile_wise.reason.replace("tile-wise", scheme.replace("_", "-")), tile_wise)
    return FORMATS["tew" if scheme == "traced" else scheme](spec, trace, gemm, tile_wise)


def recorded_remainder(trace: Trace, gemm: Gemm) -> float:
    """Share of the weights of `gemm`'s layer that its recorded mask keeps outside the tiles of its plan; 0 where it was not pruned so."""
    plan = trace.tile_wise.get(trace.own_density or "", {}).get(gemm.module)
    if plan is None:
        return 0.0
    masks = [
        other.b.mask
        for other in trace.gemms
        if other.module == gemm.module and other.b.structure == "tile_wise" and other.b.mask is not None
    ]
    return max(0.0, trace.masks[masks[0]].density - _share_of(plan)) if masks else 0.0


def plan_densities(trace: Trace) -> tuple[str, ...]:
    """The densities of the plans that baselines of a trace read, where it has them."""
    density = _density(trace)
    return tuple(map(str, (density, density / ALONG_ROWS.density, density - RESTORED)))


def _density(trace: Trace) -> Fraction:
    return Fraction(tile_wise_density(trace))


def _share_of(plan: TileWisePlan) -> float:
    return kept_macs(plan.columns, plan.rows, plan.tile_width) / (plan.columns.size * int(plan.rows.shape[1]))


def _block_sparse(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    density = _density(trace)
    outputs, inputs = weight_shape(gemm)
    blocks = drawn_blocks(gemm.module, -(-outputs // BLOCK), -(-inputs // BLOCK), float(density))
    reason = f"{BLOCK} x {BLOCK} blocks at density {density}, {blocks.mean():.0%} of this layer kept"
    return Formatted(
        reason, Lowered(lower_block_sparse(gemm, blocks), ("block_sparse", tile_wise.key, blocks.tobytes()), True, reason, "dense")
    )


def drawn_blocks(module: str, rows: int, columns: int, density: float) -> NDArray[np.bool_]:
    """Which blocks are kept, bool [rows, columns]: as many as the density asks for, to the nearest, but one of each row at least."""
    generator = np.random.default_rng(zlib.crc32(module.encode()))
    order = generator.random((rows, columns))
    order[np.arange(rows), order.argmin(axis=1)] = -1.0
    kept = np.zeros(rows * columns, dtype=np.bool_)
    kept[np.argsort(order, axis=None, kind="stable")[: max(rows, round(density * rows * columns))]] = True
    return kept.reshape(rows, columns)


def _vector_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    kept = max(1, round(VECTOR * _density(trace)))
    reason = f"{kept} of each {VECTOR} elements along the reduction, on the CUDA cores"
    return Formatted(reason, cuda=on_cuda_cores(gemm, kept / VECTOR, index_bits=4, name="vector_wise"))


def _unstructured(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    reason = f"unstructured at density {_density(trace)}, on the CUDA cores"
    return Formatted(reason, cuda=on_cuda_cores(gemm, float(_density(trace)), index_bits=8 * INDEX_BYTES, name="unstructured"))


def _tile_element_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    """The tiles and elements that were trained; or tiles of so much less that the elements restored make it the density again.

    Where the trace has no tiles of that density, those of its own, each with as much less of its rows.
    """
    density, restored = _density(trace), recorded_remainder(trace, gemm)
    if restored:
        return Formatted(f"{tile_wise.reason}; {_restored(restored)}", tile_wise, _elements(gemm, restored))
    share = min(RESTORED, density / 2)
    recorded = trace.tile_wise.get(str(density - share), {}).get(gemm.module)
    plan = recorded or thinned(trace.tile_wise[str(density)][gemm.module], float(1 - share / density))
    how = "" if recorded else f", those at {density} with {float(share / density):.0%} fewer rows each"
    about = f"{len(plan.rows)} tiles of {plan.tile_width} at {float(density - share):.1%}{how}"
    reason = f"at density {density} over the network: {about}; {_restored(float(share))}"
    return Formatted(reason, in_tiles(gemm, plan, reason), _elements(gemm, float(share)))


def _elements(gemm: Gemm, share: float) -> CudaCoreProduct:
    return on_cuda_cores(gemm, share, index_bits=8 * INDEX_BYTES, name="tew_remainder")


def _restored(share: float) -> str:
    return f"{share:.1%} of its elements restored, on the CUDA cores"


def _tile_vector_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    """2:4 of tiles of twice the density, so that as much is kept as by tile-wise alone: at 1/2 (and more), of all of W."""
    density, of_rows = _density(trace), ALONG_ROWS.density
    if density / of_rows >= 1:
        return _whole_vector_wise(spec, gemm)
    twice = trace.tile_wise.get(str(density / of_rows), {}).get(gemm.module)
    plan, tiles = (trace.tile_wise[str(density)][gemm.module], density) if twice is None else (twice, density / of_rows)
    kept = f"at density {tiles * of_rows} over the network: {len(plan.rows)} tiles of {plan.tile_width} at {tiles}"
    if twice is None:
        kept += f", for the trace has none at {density / of_rows}"
    native = native_pattern(spec, gemm.dtype, ALONG_ROWS, gemm.k)
    if gemm.phase != "forward" or gemm.conv is not None or native.pattern is None:
        reason = f"{kept}, dense: {_why_dense(gemm, native.reason)}"
        return Formatted(reason, in_tiles(gemm, plan, reason))
    reason, code = f"{kept}, {native.pattern} along their rows", spec.metadata_code(gemm.dtype, native.pattern)
    key = ("tvw", str(native.pattern), in_tiles(gemm, plan, reason).key)
    problem = lower_tile_vector_wise(gemm, plan, native.pattern, code)
    return Formatted(reason, Lowered(problem, key, True, reason, str(native.pattern), tile_wise=True))


def _whole_vector_wise(spec: GpuSpec, gemm: Gemm) -> Formatted:
    """Tiles of which every row and column is kept are no tiles: the product is one, compressed where it can be."""
    kept = f"at density {ALONG_ROWS.density} over the network: whole tiles"
    length, taps = reduction_of(gemm, gemm.b)
    native = native_pattern(spec, gemm.dtype, ALONG_ROWS, length, taps)
    if gemm.phase != "forward" or native.pattern is None:
        refused = native.reason if gemm.phase == "forward" else _why_dense(gemm, "")
        reason = f"{kept}, dense: {refused}"
        return Formatted(reason, dense_product(gemm, reason))
    reason = f"{kept}, {native.pattern} along their rows"
    return Formatted(reason, compressed(spec, gemm, "b", native.pattern, reason))


def _why_dense(gemm: Gemm, refused: str) -> str:
    if gemm.phase == "forward":
        return "a convolution's rows lie under several taps" if gemm.conv is not None else refused
    return f"{ALONG_ROWS} along the rows does not run along this reduction"


FORMATS: dict[str, Callable[[GpuSpec, Trace, Gemm, Lowered], Formatted]] = {
    "block_sparse": _block_sparse,
    "vector_wise": _vector_wise,
    "unstructured": _unstructured,
    "tew": _tile_element_wise,
    "tvw": _tile_vector_wise,
}
"""Name of the scheme -> how it lowers a GEMM of a pruned layer."""
