"""How a CTA's mainloop divides into warps, k-steps, MMAs and fragment loads: arithmetic on tile shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nmsim.sparsity.encoding import GroupCode, group_code
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits

WARP_LOAD_BYTES = 512
"""One ldmatrix.x4: 32 lanes of 16 bytes."""
ACCUMULATOR_BYTES = 4
"""Of a wide accumulator, FP32 or INT32; kernels use no others."""
REGISTER_BYTES = 128
"""One 32-bit register of all 32 lanes: what an instruction reads at least of an operand."""


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


EPILOGUE_ROWS = 8
"""Rows of a warp tile that an epilogue works off at a time: what one accumulator register of an m16n8 MMA spans."""


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
    """Codes the decoder turns into positions for one warp's MMA: one a kept element or one a group, as the encoding has it."""
    kept_per_mma: int
    """Positions the selectors are set to for one warp's MMA: kept elements of a compressed A, 0 for a dense one."""
    register_bytes_per_mma: int
    """Of one warp's MMA."""
    streamed_bytes: int = 0
    """A and B that one instruction (all its warps together) reads from shared memory as it runs; 0 where `loads` bring them."""

    @property
    def mmas_per_k_tile(self) -> int:
        """MMAs of one warp in one k-tile."""
        return self.k_steps * self.mmas_per_step


@dataclass(frozen=True)
class Instruction:
    """What one MMA consumes, of one that several warps run a warp's share; E stands for the metadata of a compressed A."""

    a_row_bits: int
    """Of one row of the fragment of A, after compression."""
    b_row_bits: int
    e_row_bits: int
    codes: int
    kept: int
    """Kept elements of a compressed A, 0 for a dense one."""
    register_bytes: int
    """A, B, E and the accumulators that are added to, as far as they come from registers."""
    streamed_bytes: int
    """A and B of all warps together, where they come straight from shared memory."""


def instruction_of(mma: _Mma, dtype: str, code: GroupCode | None = None, accumulator_bytes: int = ACCUMULATOR_BYTES) -> Instruction:
    """Bytes, codes and registers of an MMA. `code` is how the machine writes a group down (the shortest index by default)."""
    m, n, k = mma.shape[0] // mma.warps, mma.shape[1], mma.shape[2]
    bits, pattern = element_bits(dtype), mma.nm
    if pattern is None:
        a_row_bits, e_row_bits, codes, kept = k * bits, 0, 0, 0
    else:
        code = group_code(pattern) if code is None else code
        groups = -(-k // pattern.m)
        kept = m * pattern.compressed_k(k)
        a_row_bits, e_row_bits, codes = kept // m * bits, code.stored_bits(groups), m * groups * code.per_group
    operands, others = (m * a_row_bits, n * k * bits), (m * e_row_bits, m * n * accumulator_bytes * 8)
    streamed = (mma.shape[0] * a_row_bits + n * k * bits) // 8 if mma.reads_shared_memory else 0
    read = others if streamed else operands + others
    registers = sum(-(-fragment // (8 * REGISTER_BYTES)) for fragment in read)
    return Instruction(a_row_bits, k * bits, e_row_bits, codes, kept, registers * REGISTER_BYTES, streamed)


def fragments_of(key: _Key, mma: _Mma, code: GroupCode | None = None) -> Fragments:
    """Divide a CTA tile into warps and a warp's k-tile into MMAs and loads of at most WARP_LOAD_BYTES each."""
    (tile_m, tile_n, tile_k), (warp_m, warp_n) = key.cta_tile, key.warp_tile
    mma_m, mma_n, mma_k = mma.shape[0] // mma.warps, mma.shape[1], mma.shape[2]
    one = instruction_of(mma, key.dtype, code)
    loads = _split(-(-warp_m * one.e_row_bits // 8))
    if not mma.reads_shared_memory:
        loads = _split(warp_m * one.a_row_bits // 8) + _split(warp_n * one.b_row_bits // 8) + loads
    return Fragments(
        warps=-(-tile_m // warp_m) * -(-tile_n // warp_n),
        k_steps=-(-tile_k // mma_k),
        mmas_per_step=-(-warp_m // mma_m) * -(-warp_n // mma_n),
        loads=loads,
        codes_per_mma=one.codes,
        kept_per_mma=one.kept,
        register_bytes_per_mma=one.register_bytes,
        streamed_bytes=one.streamed_bytes,
    )


def strips_of(key: _Key) -> int:
    """Strips in which a CTA writes its output tile; all its warps take part in each."""
    return -(-key.warp_tile[0] // EPILOGUE_ROWS)


def strip_bytes(key: _Key) -> int:
    """Accumulator bytes of one strip, which the warps exchange through shared memory so that rows are written whole."""
    (tile_m, tile_n, _), (warp_m, _) = key.cta_tile, key.warp_tile
    return -(-tile_m // warp_m) * min(EPILOGUE_ROWS, warp_m) * tile_n * ACCUMULATOR_BYTES


def _split(nbytes: int) -> tuple[int, ...]:
    full, rest = divmod(nbytes, WARP_LOAD_BYTES)
    return (WARP_LOAD_BYTES,) * full + ((rest,) if rest else ())
