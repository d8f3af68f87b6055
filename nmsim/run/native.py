"""Which of a machine's own patterns runs a given N:M pattern."""

from __future__ import annotations

from dataclasses import dataclass

from nmsim.arch.spec import GpuSpec
from nmsim.sparsity.pattern import NMPattern


@dataclass(frozen=True)
class Native:
    """The native pattern that runs it, None for dense, and why where that is not the pattern itself."""

    pattern: NMPattern | None
    reason: str


def native_pattern(spec: GpuSpec, dtype: str, pattern: NMPattern, k: int, taps: int = 1) -> Native:
    """The cheapest native pattern of `dtype` that contains `pattern`; dense where there is none, or where it saves nothing.

    `k` is the reduction (of one filter tap, with `taps` of them): a tail shorter than M is padded to a whole group, so a very
    short one may keep as much as the dense product.
    """
    held = sorted({mma.nm for mma in spec.wide_mma if mma.dtype == dtype and mma.nm is not None}, key=lambda p: (p.density, p.m))
    fitting = next((own for own in held if own.contains(pattern)), None)
    if fitting is None:
        have = f"{', '.join(map(str, held))}, none of which contains {pattern}" if held else "no sparse pattern"
        return Native(None, f"{spec.name} holds for {dtype} {have}: runs dense")
    if fitting.compressed_k(k) * taps >= k * taps:
        return Native(None, f"tail: {fitting} of a reduction of {k} keeps {fitting.compressed_k(k)}, which saves nothing: runs dense")
    if fitting != pattern:
        return Native(fitting, f"{pattern} runs as {fitting}, the cheapest pattern {spec.name} holds for {dtype} that contains it")
    return Native(fitting, "")
