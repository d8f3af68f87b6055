"""What the values of a machine must say together, beyond what each may be alone: contradictions, not taste.

Whatever a designer may want to try stays allowed (tiles that do not fit, odd capacities); `nmsim arch check` remarks on those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nmsim.arch.document import KeyPath
from nmsim.arch.spec import GpuSpec, MmaSpec, TileSpec
from nmsim.sparsity.encoding import group_code
from nmsim.units import BITS_PER_ELEMENT

TILE_K_BYTES = (64, 128)
"""Widths of one row of a shared-memory stage that kernels use."""
ROW_PADDING_BYTES = 16
"""What a padded layout adds to each row of a tile."""
MAX_SMS = 1 << 14
"""The event order packs an SM's number into 14 bits."""


@dataclass(frozen=True)
class Contradiction:
    """A value that cannot hold beside the others or in this model, and what would mend it."""

    path: KeyPath
    problem: str
    value: object = None
    fix: str | None = None


def contradictions(spec: GpuSpec) -> Iterator[Contradiction]:
    """Everything in `spec` that no machine can be, or that the model cannot hold."""
    yield from _sm(spec)
    yield from _instructions(spec)
    yield from _memory(spec)
    for name, tiles in (("tiles", spec.kernels.tiles), ("nm_tiles", spec.kernels.nm_tiles)):
        for position, tile in enumerate(tiles):
            yield from _tile(tile, ("kernels", name, position))
    if spec.kernels.nm_default_tile >= max(len(spec.kernels.nm_tiles), 1):
        problem = f"must be a position in nm_tiles (0 to {len(spec.kernels.nm_tiles) - 1})"
        yield Contradiction(("kernels", "nm_default_tile"), problem, spec.kernels.nm_default_tile)
    if not any(shared_memory_needed(tile) <= spec.sm.shared_memory_per_cta_bytes for tile in spec.kernels.tiles):
        problem = f"no tile fits the shared memory of a CTA ({spec.sm.shared_memory_per_cta_bytes} bytes)"
        yield Contradiction(("kernels", "tiles"), problem, None, "add a smaller tile or use fewer stages")
    if spec.power.voltage_rise_per_ghz and spec.power.flat_voltage_mhz is None:
        problem = "needs power.flat_voltage_mhz, the clock from which on the voltage rises"
        yield Contradiction(("power", "voltage_rise_per_ghz"), problem, spec.power.voltage_rise_per_ghz)
    if spec.power.static_w >= spec.power.board_limit_w:
        yield Contradiction(("power", "static_w"), f"must be below board_limit_w ({spec.power.board_limit_w:g})", spec.power.static_w)


def shared_memory_needed(tile: TileSpec) -> int:
    """Bytes of shared memory that a dense CTA of `tile` holds: all stages of both operands."""
    padding = ROW_PADDING_BYTES if tile.layout == "padded" else 0
    return (tile.cta[0] + tile.cta[1]) * (tile.cta[2] + padding) * tile.stages


def _sm(spec: GpuSpec) -> Iterator[Contradiction]:
    sm = spec.sm
    if sm.count > MAX_SMS:
        yield Contradiction(("sm", "count"), f"must be at most {MAX_SMS:,}", sm.count)
    if sm.shared_memory_per_cta_bytes + sm.shared_memory_reserved_per_cta_bytes > sm.shared_memory_bytes:
        limit = sm.shared_memory_bytes - sm.shared_memory_reserved_per_cta_bytes
        problem = f"must be at most {limit}, what an SM has less the reserved part"
        yield Contradiction(("sm", "shared_memory_per_cta_bytes"), problem, sm.shared_memory_per_cta_bytes)


def _instructions(spec: GpuSpec) -> Iterator[Contradiction]:
    seen: dict[tuple[str, tuple[int, int, int], str, str], int] = {}
    for position, mma in enumerate(spec.tensor_core.mma):
        path: KeyPath = ("tensor_core", "mma", position)
        yield from _known_dtype(mma.dtype, (*path, "dtype"))
        if mma.nm is not None and mma.shape[2] % mma.nm.m:
            yield Contradiction((*path, "shape"), f"its k must hold whole groups of {mma.nm}", list(mma.shape))
        if mma.shape[0] % mma.warps or mma.warps > spec.tensor_core.per_sm:
            problem = f"must divide its m ({mma.shape[0]}) and not exceed the {spec.tensor_core.per_sm} tensor cores of an SM"
            yield Contradiction((*path, "warps"), problem, mma.warps)
        if mma.index_bits is not None:
            yield from _index_bits(spec, mma, (*path, "index_bits"))
        key = (mma.dtype, mma.shape, mma.pattern, mma.accumulator or mma.wide_accumulator)
        if key in seen:
            yield Contradiction(path, f"is the same instruction as tensor_core.mma.{seen[key]}", None, "remove one of the two")
        seen.setdefault(key, position)
        if mma.dtype not in spec.energy.mac_pj:
            problem = f"has no energy for the {mma.dtype} instructions of the tensor cores"
            yield Contradiction(("energy", "mac_pj"), problem, None, f"add a {mma.dtype} value")
    for position, dtype in enumerate(spec.tensor_core.compressible_only_k_contiguous):
        yield from _known_dtype(dtype, ("tensor_core", "compressible_only_k_contiguous", position))
    for dtype in spec.energy.mac_pj:
        yield from _known_dtype(dtype, ("energy", "mac_pj", dtype))


def _index_bits(spec: GpuSpec, mma: MmaSpec, path: KeyPath) -> Iterator[Contradiction]:
    """Indices of an instruction must hold every position, and be of one width for all instructions that read one operand."""
    if mma.nm is None:
        yield Contradiction(path, "is of a compressed operand, and this instruction is dense", mma.index_bits, "remove it")
        return
    needed = group_code(mma.nm).bits
    if mma.index_bits is not None and mma.index_bits < needed:
        yield Contradiction(path, f"cannot hold a position in a group of {mma.nm.m}", mma.index_bits, f"use at least {needed}")
    others = {other.index_bits for other in spec.tensor_core.mma if (other.dtype, other.pattern) == (mma.dtype, mma.pattern)}
    if len(others) > 1:
        problem = f"differs among the {mma.pattern} instructions for {mma.dtype}, which read the same operand"
        yield Contradiction(path, problem, mma.index_bits, "give all of them the same")


def _known_dtype(dtype: str, path: KeyPath) -> Iterator[Contradiction]:
    if dtype not in BITS_PER_ELEMENT:
        yield Contradiction(path, "is not an element type", dtype, f"known: {', '.join(BITS_PER_ELEMENT)}")


def _memory(spec: GpuSpec) -> Iterator[Contradiction]:
    l2, dram = spec.l2, spec.dram
    powers: tuple[tuple[KeyPath, int], ...] = (
        (("l2", "partitions"), l2.partitions),
        (("l2", "block_bytes"), l2.block_bytes),
        (("dram", "interleave_bytes"), dram.interleave_bytes),
        (("dram", "row_bytes"), dram.row_bytes),
        (("dram", "banks"), dram.banks),
    )
    for path, value in powers:
        if value & (value - 1):
            below = 1 << (value.bit_length() - 1)
            yield Contradiction(path, "must be a power of two", value, f"use {below} or {2 * below}")
    for path, value in ((("l2", "block_bytes"), l2.block_bytes), (("dram", "row_bytes"), dram.row_bytes)):
        if value < dram.interleave_bytes:
            yield Contradiction(path, f"must be at least dram.interleave_bytes ({dram.interleave_bytes})", value)
    if l2.capacity_bytes < l2.partitions * l2.block_bytes:
        problem = f"must hold a block ({l2.block_bytes} bytes) in each of {l2.partitions} partition(s)"
        yield Contradiction(("l2", "capacity_bytes"), problem, l2.capacity_bytes)
    if l2.far_latency_cycles < l2.near_latency_cycles:
        problem = f"must not be below near_latency_cycles ({l2.near_latency_cycles})"
        yield Contradiction(("l2", "far_latency_cycles"), problem, l2.far_latency_cycles)
    if dram.refresh_ns >= dram.refresh_interval_ns:
        problem = f"must be below refresh_interval_ns ({dram.refresh_interval_ns:g}), or the channel never runs"
        yield Contradiction(("dram", "refresh_ns"), problem, dram.refresh_ns)


def _tile(tile: TileSpec, path: KeyPath) -> Iterator[Contradiction]:
    m, n, k_bytes = tile.cta
    if k_bytes not in TILE_K_BYTES:
        yield Contradiction((*path, "cta"), "its k must be 64 or 128 bytes", list(tile.cta))
    if m % tile.warp[0] or n % tile.warp[1]:
        yield Contradiction((*path, "warp"), f"must divide the CTA tile {m} x {n}", list(tile.warp))
    elif tile.warp[0] % 16 or tile.warp[1] % 8:
        yield Contradiction((*path, "warp"), "must be a multiple of 16 x 8, the instructions' m x n", list(tile.warp))
