"""How each scheme runs each GEMM of a trace: the problem to simulate, and in words why it runs that way."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from nmsim.arch.spec import GpuSpec
from nmsim.mapping.convolution import lower_convolution
from nmsim.mapping.lower import lower_dense, lower_nm
from nmsim.mapping.problem import Problem
from nmsim.mapping.tile_wise import lower_tile_wise
from nmsim.run.native import native_pattern
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.workload.gemm import Gemm, Operand
from nmsim.workload.legality import is_attention_product, usable_structure
from nmsim.workload.trace import TileWisePlan, Trace

SCHEMES = ("traced", "dense", "tile_wise")
DEFAULT_TILE_WISE_DENSITY = "1/2"
"""Density of the tile-wise baseline beside a trace that has none of its own."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """One GEMM under one scheme. GEMMs with equal `key` are the same work and are simulated once."""

    problem: Problem
    key: Hashable
    ran_sparse: bool
    reason: str
    native: str
    tile_wise: bool = False
    compressed: str = ""
    """The operand that is compressed, `a` or `b`, if one is."""


def lower(spec: GpuSpec, trace: Trace, gemm: Gemm, scheme: str) -> Lowered:
    """The problem that `scheme` runs for `gemm`."""
    if scheme == "traced":
        return _traced(spec, trace, gemm)
    if scheme == "tile_wise":
        return _tile_wise(trace, gemm)
    return dense_product(gemm, "dense baseline")


def tile_wise_density(trace: Trace) -> str:
    """The density of the tile-wise baseline: the trace's own sparsity where it has one."""
    own = trace.own_density
    return own if own is not None and own in trace.tile_wise else DEFAULT_TILE_WISE_DENSITY


def dense_product(gemm: Gemm, reason: str) -> Lowered:
    """The GEMM with nothing left out, for a reason."""
    problem = lower_dense(gemm) if gemm.conv is None else lower_convolution(gemm, None)
    return Lowered(problem, ("dense", _shape(gemm)), False, reason, "dense")


def compressed(spec: GpuSpec, gemm: Gemm, side: str, pattern: NMPattern, reason: str) -> Lowered:
    """The GEMM with operand `side` ("a" or "b") compressed to a pattern that the machine holds."""
    code = spec.metadata_code(gemm.dtype, pattern)
    problem = lower_nm(gemm, side, pattern, code) if gemm.conv is None else lower_convolution(gemm, pattern, code)
    return Lowered(problem, ("nm", str(pattern), side, _shape(gemm)), True, reason, str(pattern), compressed=side)


def in_tiles(gemm: Gemm, plan: TileWisePlan, reason: str) -> Lowered:
    """The tiles of a plan as gathered dense products."""
    key = ("tile_wise", _shape(gemm), plan.columns.tobytes(), plan.rows.tobytes())
    return Lowered(lower_tile_wise(gemm, plan), key, True, reason, "dense", tile_wise=True)


def _traced(spec: GpuSpec, trace: Trace, gemm: Gemm) -> Lowered:
    """Sparse where an operand's mask allows it along this reduction, and the machine holds a pattern that contains it."""
    if is_pruned_tile_wise(trace, gemm):
        return _tile_wise(trace, gemm)
    usable: list[tuple[NMPattern, str, str]] = []
    refused: list[str] = []
    for side, operand in (("a", gemm.a), ("b", gemm.b)):
        verdict = usable_structure(gemm, operand, trace)
        if not verdict.ok or verdict.pattern is None:
            if operand.structure != "dense":
                refused.append(verdict.reason)
            continue
        if gemm.conv is not None and not _compressible(gemm, side, operand):
            refused.append(
                f"operand {side} ({operand.role}) is read tap by tap: of a convolution, W or backward_weight's dY can be compressed"
            )
            continue
        length, taps = reduction_of(gemm, operand)
        native = native_pattern(spec, gemm.dtype, verdict.pattern, length, taps)
        if native.pattern is None:
            refused.append(native.reason)
        else:
            usable.append((native.pattern, side, "; ".join(filter(None, (verdict.reason, native.reason)))))
    if not usable:
        return dense_product(gemm, "; ".join(refused) or _no_structure(gemm))
    usable.sort(key=lambda found: found[0].density)
    pattern, side, reason = usable[0]
    if len(usable) > 1:
        other = gemm.b if usable[1][1] == "b" else gemm.a
        reason += f"; operand {usable[1][1]} ({other.role}) is {usable[1][0]} too, and one of two can be compressed"
    return compressed(spec, gemm, side, pattern, reason)


def _tile_wise(trace: Trace, gemm: Gemm) -> Lowered:
    density = tile_wise_density(trace)
    plans = trace.tile_wise.get(density, {})
    plan = plans.get(gemm.module)
    if plan is None or is_attention_product(gemm):
        return dense_product(gemm, "not pruned tile-wise: no plan for this layer")
    kept = kept_macs(plan.columns, plan.rows, plan.tile_width) / (plan.columns.size * plan.rows.shape[1])
    reason = f"tile-wise at density {density} over the network, {kept:.0%} of this layer: {len(plan.rows)} tiles of {plan.tile_width}"
    return in_tiles(gemm, plan, reason)


def is_pruned_tile_wise(trace: Trace, gemm: Gemm) -> bool:
    """True for every product of a layer whose recorded weight is tile-wise: pruned weights are not trained, so dW has its blocks too."""
    if gemm.module not in trace.tile_wise.get(trace.own_density or "", {}) or is_attention_product(gemm):
        return False
    return any(other.b.structure == "tile_wise" for other in trace.gemms if other.module == gemm.module)


def _no_structure(gemm: Gemm) -> str:
    if is_attention_product(gemm):
        return "attention product: neither operand is a weight"
    if gemm.phase == "backward_weight":
        return "no operand is sparse: backward_weight has no weight in it"
    return "this layer was not pruned"


def _compressible(gemm: Gemm, side: str, operand: Operand) -> bool:
    """Whether an implicit GEMM can have this operand compressed: pixels that several taps read in turn lie in no fixed group."""
    return operand.role == "weight" or (gemm.phase == "backward_weight" and side == "a")


def reduction_of(gemm: Gemm, operand: Operand) -> tuple[int, int]:
    """(length of the reduction that groups must fit in, how many of them): one filter tap of a convolution at a time."""
    if gemm.conv is None or operand.role != "weight":
        return gemm.k, 1
    taps = gemm.conv.kernel_h * gemm.conv.kernel_w
    return gemm.k // taps, taps


def _shape(gemm: Gemm) -> Hashable:
    """All that timing reads of a dense GEMM."""
    plain = replace(gemm, id="", module="", repeat=1, batch_axis="none")
    layouts = tuple((operand.k_contiguous, len(operand.axes)) for operand in (gemm.a, gemm.b))
    return (plain.phase if plain.conv else "", plain.m, plain.n, plain.k, plain.l, plain.dtype, plain.out_dtype, plain.conv, layouts)
