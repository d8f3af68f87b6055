"""How a CTA's mainloop divides into warps, k-steps, MMAs and fragment loads: arithmetic on tile shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits

WARP_LOAD_BYTES = 512
"""One ldmatrix.x4: 32 lanes of 16 bytes."""
ACCUMULATOR_BYTES = 4


class _Key(Protocol):
    @property
    def dtype(self) -> str: ...
    @property
    def cta_tile(self) -> tuple[int, int, int]: ...
    @property
    def warp_tile(self) -> tuple[int, int]: ...


class _Mma(Protocol):
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def nm(self) -> NMPattern | None: ...
    @property
    def warps(self) -> int: ...
    @property
    def reads_shared_memory(self) -> bool: ...


@dataclass(frozen=True)
class Fragments:
    """One warp's share of a k-tile."""

    warps: int
    """Warps of the CTA."""
    k_steps: int
    mmas_per_step: int
    """MMAs of one warp in one k-step; of an instruction that several warps run, the warp's share."""
    loads: tuple[int, ...]
    """Bytes of each shared-memory load of one k-step: A values, B, then E."""
    codes_per_mma: int
    """Of one warp's MMA."""
    register_bytes_per_mma: int
    """Of one warp's MMA."""
    streamed_bytes: int = 0
    """A and B that one instruction (all its warps together) reads from shared memory as it runs; 0 where `loads` bring them."""

    @property
    def mmas_per_k_tile(self) -> int:
        """MMAs of one warp in one k-tile."""
        return self.k_steps * self.mmas_per_step


def fragments_of(key: _Key, mma: _Mma) -> Fragments:
    """Divide a CTA tile into warps and a warp's k-tile into MMAs and loads of at most WARP_LOAD_BYTES each."""
    (tile_m, tile_n, tile_k), (warp_m, warp_n) = key.cta_tile, key.warp_tile
    mma_m, mma_n, mma_k = mma.shape[0] // mma.warps, mma.shape[1], mma.shape[2]
    bits, pattern = element_bits(key.dtype), mma.nm
    kept = mma_k if pattern is None else pattern.compressed_k(mma_k)
    metadata_bits = 0 if pattern is None else kept * max(1, (pattern.m - 1).bit_length())
    a_bytes, b_bytes = warp_m * kept * bits // 8, warp_n * mma_k * bits // 8
    loads = _split(warp_m * metadata_bits // 8)
    operand_bits = mma_m * metadata_bits
    if not mma.reads_shared_memory:
        loads = _split(a_bytes) + _split(b_bytes) + loads
        operand_bits += mma_m * kept * bits + mma_n * mma_k * bits
    return Fragments(
        warps=-(-tile_m // warp_m) * -(-tile_n // warp_n),
        k_steps=-(-tile_k // mma_k),
        mmas_per_step=-(-warp_m // mma_m) * -(-warp_n // mma_n),
        loads=loads,
        codes_per_mma=0 if pattern is None else mma_m * kept,
        register_bytes_per_mma=operand_bits // 8 + mma_m * mma_n * ACCUMULATOR_BYTES,
        streamed_bytes=(mma.shape[0] * kept + mma_n * mma_k) * bits // 8 if mma.reads_shared_memory else 0,
    )


def _split(nbytes: int) -> tuple[int, ...]:
    full, rest = divmod(nbytes, WARP_LOAD_BYTES)
    return (WARP_LOAD_BYTES,) * full + ((rest,) if rest else ())
