"""Which kernels could run a problem, ranked by a closed form; the best few are then simulated.

The ranking plays the part of a vendor library's heuristic: it is quick, and it may be wrong, which is why the machine
runs the best of its list instead of trusting it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmsim.arch.spec import GpuSpec, MmaSpec, TileSpec
from nmsim.errors import InputError
from nmsim.mapping.cluster import shared_side
from nmsim.mapping.ctas import count_ctas, cta_table, stream_k_ctas
from nmsim.mapping.estimate import estimator, k_tiles_of
from nmsim.mapping.layout import Layout, require_memory
from nmsim.mapping.occupancy import occupancy
from nmsim.mapping.plan import KernelPlan, MainloopKey
from nmsim.mapping.problem import Problem
from nmsim.mapping.stream_k import streamed_tiles
from nmsim.rules.box import DIMENSION, SHARED_BY
from nmsim.rules.fragments import Fragments, fragments_of, strips_of
from nmsim.units import element_bits

CUTLASS_TYPES = {"fp16": "f16", "int8": "s8", "int4": "s4", "fp8": "e4m3"}
"""Names of element types where CUTLASS's differ from ours."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A kernel for a problem: enough to rank it and, if it is chosen, to build its plan."""

    problem: Problem
    key: MainloopKey
    fragments: Fragments
    mma: MmaSpec
    split_k: int
    occupancy: int
    limiter: str
    estimate_cycles: float
    """With the library's reluctance to split a reduction."""
    stream_k: bool = False
    """Whether the last tiles are cut so that all SMs end together."""

    @property
    def k_tiles(self) -> int:
        """Of all CTAs together: what simulating it costs."""
        return k_tiles_of(self.problem, self.key.cta_tile)


def best_mma(spec: GpuSpec, dtype: str, pattern: str, tile: TileSpec | None = None) -> MmaSpec | None:
    """The instruction of the highest rate for an element type and pattern; of equals, the one with the longest k, then n.

    With a `tile`, one whose warps the tile can be divided over: a warpgroup's instruction needs whole m x n of its own.
    """
    fitting = [mma for mma in spec.wide_mma if mma.dtype == dtype and mma.pattern == pattern]
    if tile is not None:
        fitting = [mma for mma in fitting if mma.warps == 1 or not (tile.cta[0] % mma.shape[0] or tile.cta[1] % mma.shape[1])]
        fitting = [mma for mma in fitting if tile.instructions in ("any", "warp" if mma.warps == 1 else "warpgroup")]
    return max(fitting, key=lambda mma: (mma.macs_per_cycle, mma.shape[2], mma.shape[1]), default=None)


def warp_tile(tile: TileSpec, mma: MmaSpec) -> tuple[int, int]:
    """What one warp of the CTA computes: as the template has it, or a row of a warpgroup's share of the tile.

    As in CUTLASS's cooperative kernels, at most two warpgroups divide the tile's m; each takes all of its n.
    """
    if mma.warps == 1:
        return tile.warp[0], tile.warp[1]
    groups = 2 if tile.cta[0] % (2 * mma.shape[0]) == 0 else 1
    return tile.cta[0] // (groups * mma.warps), tile.cta[1]


def rank(spec: GpuSpec, problem: Problem, keep: int = 3, *, stream_k: bool = False) -> list[Candidate]:
    """The `keep` most promising kernels, best first: of those that cut no tile, or (`stream_k`) of those that do, if any.

    InputError where the machine has no instruction for the type.
    """
    if not problem.groups:
        raise InputError("the convolution reads nothing but padding: no product is left to run", path=problem.label)
    require_memory(spec.dram, problem.label, sum(tensor.rows * tensor.pitch_bytes for tensor in problem.tensors))
    pattern = "dense" if problem.pattern is None else str(problem.pattern)
    if best_mma(spec, problem.dtype, pattern) is None:
        known = sorted({m.dtype for m in spec.tensor_core.mma})
        raise InputError(
            f"{spec.name} has no {pattern} matrix instruction for {problem.dtype}", fix=f"use --dtype with one of {', '.join(known)}"
        )
    found = []
    shortest = min(group.k for group in problem.groups)
    for tile in (*problem.tiles, *spec.kernels.tiles_for(compressed=problem.pattern is not None)):
        mma = best_mma(spec, problem.dtype, pattern, tile)
        if mma is None or (tile.dtypes and problem.dtype not in tile.dtypes):
            continue
        key = mainloop_key(tile, problem, mma, spec.kernels.operand_copy)
        fragments = fragments_of(key, mma, problem.code)
        resident, limiter = occupancy(spec.sm, key, fragments, spec.kernels.registers_per_thread, tile.registers)
        if not resident:
            continue
        if spec.kernels.max_resident_ctas is not None and resident > spec.kernels.max_resident_ctas:
            resident, limiter = spec.kernels.max_resident_ctas, "library"
        estimate = estimator(spec, problem, key, fragments, mma, resident)
        if stream_k:
            tiles = count_ctas(problem.groups, problem.batch, key.cta_tile, 1)
            if spec.kernels.stream_k and streamed_tiles(tiles, spec.sm.count * resident):
                found.append(Candidate(problem, key, fragments, mma, 1, resident, limiter, estimate(1, stream_k=True), stream_k=True))
            continue
        for split_k in range(1, min(spec.kernels.max_split_k, -(-shortest // key.cta_tile[2])) + 1):
            weighed = estimate(split_k) * spec.kernels.reluctance(split_k)
            found.append(Candidate(problem, key, fragments, mma, split_k, resident, limiter, weighed))
    if not found and not stream_k:
        raise InputError(f"no kernel of {spec.name} fits an SM for {problem.dtype}", fix="add a smaller tile to kernels.tiles")
    found.sort(key=lambda candidate: candidate.estimate_cycles)
    return found[:keep]


def mainloop_key(tile: TileSpec, problem: Problem, mma: MmaSpec, copy: str = "async") -> MainloopKey:
    """A kernel template for the problem's element type and pattern."""
    bits = element_bits(problem.dtype)
    tile_m, tile_n, k_bytes = tile.cta
    tile_k = max(k_bytes * 8 // bits, mma.shape[2])
    kept = tile_k if problem.pattern is None else problem.pattern.compressed_k(tile_k)
    metadata_bits = 0
    if problem.pattern is not None and problem.code is not None:
        metadata_bits = problem.code.stored_bits(-(-tile_k // problem.pattern.m))
    copy_bytes = (tile_m * (kept * bits + metadata_bits) + tile_n * tile_k * bits) // 8
    return MainloopKey(
        kind="mma",
        dtype=problem.dtype,
        pattern=mma.pattern,
        cta_tile=(tile_m, tile_n, tile_k),
        warp_tile=warp_tile(tile, mma),
        stages=tile.stages,
        mma_shape=mma.shape,
        copy_bytes=copy_bytes,
        copy=tile.copy_path or copy,
        layout=tile.layout,
        fragments=tile.fragments,
    )


def kernel_name(key: MainloopKey, mma: MmaSpec) -> str:
    """As CUTLASS writes one: accumulators and instruction, gemm or spgemm with its pattern, type, CTA tile, k-tile x stages."""
    accumulates = "i" if mma.wide_accumulator == "int32" else "s"
    instruction = ("" if mma.warps == 1 else "x").join(map(str, mma.shape))
    product = "gemm" if mma.nm is None else f"spgemm_{key.pattern}"
    m, n, k = key.cta_tile
    element = CUTLASS_TYPES.get(key.dtype, key.dtype)
    unusual = [value for value, usual in ((key.layout, "swizzled"), (key.copy, "async"), (key.fragments, "prefetched")) if value != usual]
    return "_".join((f"{accumulates}{instruction}{product}", element, f"{m}x{n}", f"{k}x{key.stages}", *unusual))


def build_plan(spec: GpuSpec, candidate: Candidate) -> KernelPlan:
    """Lay a chosen kernel out: tensors, descriptors, CTAs."""
    problem, key, split_k = candidate.problem, candidate.key, candidate.split_k
    tile = key.cta_tile
    width = spec.kernels.raster_width_for(compressed=problem.pattern is not None)
    if candidate.stream_k:
        ctas = stream_k_ctas(problem.groups, problem.batch, tile, width, spec.sm.count * candidate.occupancy)
    else:
        ctas = cta_table(problem.groups, problem.batch, tile, split_k, width)
    gathered = {view.tensor for group in problem.groups for view in group.operands if view.gather is not None}
    layout = Layout(problem.tensors, spec.l2.block_bytes, spec.dram.interleave_bytes, gathered)
    operands = np.stack([np.stack([layout.view(view) for view in group.operands]) for group in problem.groups])
    for group, descriptors in zip(problem.groups, operands, strict=True):
        if (side := shared_side(key, group, spec.kernels.cluster)) is not None:
            descriptors[descriptors[:, DIMENSION] == side, SHARED_BY] = spec.kernels.cluster
    outputs = np.stack([layout.view(group.output) for group in problem.groups])
    executed = candidate.fragments.mmas_per_k_tile * candidate.fragments.warps
    m, n, k = key.mma_shape[0] // candidate.mma.warps, key.mma_shape[1], key.mma_shape[2]
    kept = k if problem.pattern is None else problem.pattern.compressed_k(k)
    name = kernel_name(key, candidate.mma) + ("_streamk" if candidate.stream_k else "")
    return KernelPlan(
        name=name,
        mainloop=key,
        occupancy=candidate.occupancy,
        occupancy_limiter=candidate.limiter,
        ctas=ctas,
        operands=operands,
        outputs=outputs,
        tensors=layout.tensors,
        gather=layout.gather,
        accumulate=np.array([int(group.accumulate) for group in problem.groups], dtype=np.int64),
        blocks=layout.blocks,
        dense_equivalent_macs=problem.dense_equivalent_macs,
        executed_macs_per_k_tile=executed * m * n * kept,
        codes_per_k_tile=executed * candidate.fragments.kept_per_mma,
        strip_rows=-(-tile[0] // strips_of(key)),
        split_k=split_k,
        notes=problem.notes,
    )
