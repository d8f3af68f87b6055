"""Other sparse formats as baselines: what the layers that tile-wise prunes would cost at the same density in another form.

=================  ================================================================================================
`block_sparse`     32 x 32 blocks of W, drawn at random at the density: gathered dense tiles of 32 columns
`vector_wise`      a fixed number kept of each 16 elements along the reduction (balanced): on the CUDA cores
`unstructured`     single elements anywhere, compressed rows: on the CUDA cores
`tew`              tile-wise and 5 % of the elements restored, those on the CUDA cores (Guo et al., SC20)
`tvw`              tile-wise tiles, 2:4 along their rows in `forward` (Guo et al., arXiv 2402.10876)
=================  ================================================================================================

Only their densities are recorded, so that which blocks and elements are kept is an assumption; of a step that was trained with TEW
the restored share of each layer is recorded, and `traced` runs it as `tew` does. On the CUDA cores a product takes
2 flops a kept weight and token at the FP32 rate, or the time of its operands' bytes: no gather, no index arithmetic, no
imbalance is charged, so that no real kernel is faster. None of them falls back to dense where that would be faster.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.tile_wise import lower_tile_vector_wise, lower_tile_wise
from nmsim.run.native import native_pattern
from nmsim.run.schemes import Lowered, lower, tile_wise_density
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm
from nmsim.workload.trace import TileWisePlan, Trace

BLOCK = 32
"""Side of a block: the block-wise baseline of Guo et al., SC20."""
VECTOR = 16
"""Length of a vector: their vector-wise baseline."""
RESTORED = 0.05
"""Share of the weights that TEW restores: the default of the authors' BERT scripts (clevercool/TileSparsity)."""
INDEX_BYTES = 4
"""Of an element of a compressed row: an INT32 column, as cuSPARSE has it."""


@dataclass(frozen=True)
class CudaCoreProduct:
    """A product on the CUDA cores: what one launch reads, writes and computes."""

    name: str
    bytes_read: int
    bytes_written: int
    flops: int


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
    in_tiles = kept_macs(plan.columns, plan.rows, plan.tile_width) / (plan.columns.size * plan.rows.shape[1])
    return max(0.0, trace.masks[masks[0]].density - in_tiles) if masks else 0.0


def _density(trace: Trace) -> float:
    return float(Fraction(tile_wise_density(trace)))


def _block_sparse(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    density = _density(trace)
    outputs, inputs = _weight_shape(gemm)
    generator = np.random.default_rng(zlib.crc32(gemm.module.encode()))
    blocks = generator.random((-(-outputs // BLOCK), -(-inputs // BLOCK))) < density
    blocks[np.arange(len(blocks)), generator.integers(blocks.shape[1], size=len(blocks))] = True  # no column of blocks is empty
    reason = f"{BLOCK} x {BLOCK} blocks at density {density:g}, {blocks.mean():.0%} of this layer kept"
    if gemm.phase == "backward_data" and gemm.conv is None:  # the transposed blocks, as a forward product of W^T
        plan, product = _block_plan(blocks.T, inputs, outputs), replace(gemm, phase="forward")
    else:
        plan, product = _block_plan(blocks, outputs, inputs), gemm
    problem = lower_tile_wise(product, plan)
    key = ("block_sparse", tile_wise.key)
    return Formatted(reason, Lowered(problem, key, True, reason, "dense", tile_wise=True))


def _block_plan(blocks: np.ndarray[tuple[int, int], np.dtype[np.bool_]], columns: int, rows: int) -> TileWisePlan:
    """A plan of tiles one block wide: the blocks [column blocks, row blocks] that each keeps."""
    kept = np.repeat(blocks, BLOCK, axis=1)[:, :rows]
    return TileWisePlan(BLOCK, np.ones(columns, dtype=np.bool_), np.ascontiguousarray(kept))


def _vector_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    kept = max(1, round(VECTOR * _density(trace)))
    reason = f"{kept} of each {VECTOR} elements along the reduction, on the CUDA cores"
    return Formatted(reason, cuda=_on_cuda_cores(gemm, kept / VECTOR, index_bits=4, name="vector_wise"))


def _unstructured(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    reason = f"unstructured at density {_density(trace):g}, on the CUDA cores"
    return Formatted(reason, cuda=_on_cuda_cores(gemm, _density(trace), index_bits=8 * INDEX_BYTES, name="unstructured"))


def _tile_element_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    restored = recorded_remainder(trace, gemm) or RESTORED
    reason = f"{tile_wise.reason}; {restored:.1%} of its elements restored, on the CUDA cores"
    return Formatted(reason, tile_wise, _on_cuda_cores(gemm, restored, index_bits=8 * INDEX_BYTES, name="tew_remainder"))


def _tile_vector_wise(spec: GpuSpec, trace: Trace, gemm: Gemm, tile_wise: Lowered) -> Formatted:
    """Tiles of twice the density where the trace has them, so that 2:4 of them keeps as much as tile-wise alone."""
    own = Fraction(tile_wise_density(trace))
    plans = trace.tile_wise.get(str(2 * own)) or trace.tile_wise[tile_wise_density(trace)]
    plan = plans[gemm.module]
    native = native_pattern(spec, gemm.dtype, NMPattern(2, 4), gemm.k)
    if gemm.phase != "forward" or gemm.conv is not None or native.pattern is None:
        problem, reason, held = lower_tile_wise(gemm, plan), f"its tiles, dense: {_why_dense(gemm, native.reason)}", "dense"
    else:
        code = spec.metadata_code(gemm.dtype, native.pattern)
        problem, held = lower_tile_vector_wise(gemm, plan, native.pattern, code), str(native.pattern)
        reason = f"{len(plan.rows)} tiles of {plan.tile_width}, {held} along their rows"
    key = ("tvw", held, tile_wise.key, plan.rows.tobytes())
    return Formatted(reason, Lowered(problem, key, True, reason, held, tile_wise=True))


def _why_dense(gemm: Gemm, refused: str) -> str:
    if gemm.conv is not None:
        return "a convolution's rows lie under several taps"
    return refused if gemm.phase == "forward" else "2:4 along the rows does not run along this reduction"


def _weight_shape(gemm: Gemm) -> tuple[int, int]:
    """(outputs, reduction of the forward product) of the layer that `gemm` belongs to."""
    if gemm.conv is not None:
        conv = gemm.conv
        return conv.out_channels // conv.groups, conv.kernel_h * conv.kernel_w * conv.in_channels // conv.groups
    return {"forward": (gemm.n, gemm.k), "backward_data": (gemm.k, gemm.n), "backward_weight": (gemm.m, gemm.n)}[gemm.phase]


def _on_cuda_cores(gemm: Gemm, density: float, *, index_bits: int, name: str) -> CudaCoreProduct:
    """Kept weights (or, in backward_weight, kept gradients of them) times tokens; the other operand and the output are dense."""
    bits = element_bits(gemm.dtype)
    kept = round(gemm.macs * density)
    outputs, reduction = _weight_shape(gemm)
    weights = round(outputs * reduction * gemm.l * density)
    dense_a, dense_b, output = gemm.m * gemm.k * gemm.l, gemm.k * gemm.n * gemm.l, gemm.m * gemm.n * gemm.l
    sparse_bytes = weights * (bits + index_bits) // 8
    if gemm.phase == "backward_weight":
        return CudaCoreProduct(name, (dense_a + dense_b) * bits // 8, sparse_bytes, 2 * kept)
    written = output * element_bits(gemm.out_dtype) // 8
    return CudaCoreProduct(name, dense_a * bits // 8 + sparse_bytes, written, 2 * kept)


FORMATS: dict[str, Callable[[GpuSpec, Trace, Gemm, Lowered], Formatted]] = {
    "block_sparse": _block_sparse,
    "vector_wise": _vector_wise,
    "unstructured": _unstructured,
    "tew": _tile_element_wise,
    "tvw": _tile_vector_wise,
}
"""Name of the scheme -> how it lowers a GEMM of a pruned layer."""
