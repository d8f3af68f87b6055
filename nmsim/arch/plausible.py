"""Numbers of a machine set against one another: what a reader of its data sheets would ask about."""

from __future__ import annotations

from collections.abc import Iterator

from nmsim.arch.coherence import shared_memory_needed
from nmsim.arch.document import KeyPath
from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import BITS_PER_ELEMENT

Remark = tuple[KeyPath, str]

ACCUMULATOR_BYTES = 4
FP16_BYTES = 2
LARGE = 4096
"""Side of a GEMM that a library's raster is made for."""
ROUNDING = 1.001
"""Rates given to three digits are not called excessive."""
SHORTFALL = 1.06
"""A register file that misses the tensor cores' rate by so little is how silicon is built, not a slip of the pen."""


IMPOSSIBLE_POWER = 10
"""Times the board's limit at the dense peak rate. The H100 needs twice its own; ten times is a slip in a rate, a clock or an energy."""


def impossibilities(spec: GpuSpec) -> Iterator[Remark]:
    """(path, what cannot be about it) for numbers that make no machine together."""
    for dtype, watts in _peak_power_w(spec):
        if watts > IMPOSSIBLE_POWER * spec.power.board_limit_w:
            problem = f"burns {watts:,.0f} W at the dense peak rate, more than {IMPOSSIBLE_POWER} times board_limit_w"
            yield ("energy", "mac_pj", dtype), f"{problem}: look at tensor_core.mma's issue intervals, the clock and this energy"


def remarks(spec: GpuSpec) -> Iterator[Remark]:
    """(path, what is doubtful about it) for everything in `spec` that looks unlike a machine one would build."""
    yield from _instructions(spec)
    yield from _memory(spec)
    yield from _kernels(spec)
    yield from _power(spec)
    if spec.sm.schedulers != spec.tensor_core.per_sm:
        problem = f"differs from tensor_core.per_sm ({spec.tensor_core.per_sm}): a tensor core usually has a scheduler of its own"
        yield ("sm", "schedulers"), problem


def _instructions(spec: GpuSpec) -> Iterator[Remark]:
    core = spec.tensor_core
    for position, mma in enumerate(core.mma):
        path: KeyPath = ("tensor_core", "mma", position)
        if mma.latency_cycles < mma.issue_interval_cycles:
            yield (*path, "latency_cycles"), f"is below the issue interval ({mma.issue_interval_cycles:g} cycles)"
        if mma.nm is not None:
            dense = spec.peak_macs_per_cycle(mma.dtype)
            executed = _executed_macs(mma) / mma.issue_interval_cycles * core.per_sm * spec.sm.count
            if dense and executed > dense * ROUNDING:
                yield path, f"executes {executed:,.0f} MACs a cycle, more than the dense {mma.dtype} instructions' {dense:,.0f}"
            supplied = core.decoder.codes_per_cycle * mma.issue_interval_cycles
            if (needed := _codes(spec, mma, mma.nm)) > supplied * ROUNDING:
                problem = f"consumes {needed} metadata codes in {mma.issue_interval_cycles:g} cycles, the decoder supplies {supplied:g}"
                yield path, f"{problem}: it runs at {supplied / needed:.0%} of its rate"
            if (turns := core.decoder.selector_turns(mma.nm.m)) > 1:
                problem = f"chooses among {mma.nm.m} elements of B with a selector of {core.decoder.selector_width}"
                yield path, f"{problem}: it takes {turns} turns, and runs at {1 / turns:.0%} of its rate"
        supplied = core.register_read_bytes_per_cycle * mma.issue_interval_cycles
        if (needed := _register_bytes(mma)) > supplied * SHORTFALL:
            problem = f"reads {needed} bytes of registers in {mma.issue_interval_cycles:g} cycles, the register file supplies {supplied:g}"
            yield path, f"{problem}: it runs at {supplied / needed:.0%} of its rate"


def _executed_macs(mma: MmaSpec) -> int:
    """Of one warp's share."""
    m, n, k = mma.shape
    return m // mma.warps * n * (k if mma.nm is None else mma.nm.compressed_k(k))


def _codes(spec: GpuSpec, mma: MmaSpec, pattern: NMPattern) -> int:
    """Codes the decoder turns into positions for one instruction."""
    return mma.shape[0] * -(-mma.shape[2] // pattern.m) * spec.metadata_code(mma.dtype, pattern).per_group


def _register_bytes(mma: MmaSpec) -> int:
    """Of one warp's share: its accumulators and, unless they come from shared memory, its operands."""
    m, n, k = mma.shape[0] // mma.warps, mma.shape[1], mma.shape[2]
    kept = k if mma.nm is None else mma.nm.compressed_k(k)
    operands = 0 if mma.reads_shared_memory else (m * kept + n * k) * BITS_PER_ELEMENT[mma.dtype] // 8
    return operands + m * n * ACCUMULATOR_BYTES


def _memory(spec: GpuSpec) -> Iterator[Remark]:
    l2, dram = spec.l2, spec.dram
    slices = l2.partitions * l2.slices_per_partition
    if l2.capacity_bytes % slices:
        yield ("l2", "capacity_bytes"), f"does not divide over {slices} slices; set l2.slices_per_partition to what it has"
    if l2.bandwidth_gb_per_s < dram.bandwidth_gb_per_s:
        problem = f"leaves L2 {l2.bandwidth_gb_per_s:,.0f} GB/s, less than DRAM's {dram.bandwidth_gb_per_s:,.0f}"
        yield ("l2", "sustained_fraction"), problem
    ports = spec.noc.sm_port_bytes_per_cycle * spec.sm.count * spec.clock.boost_mhz / 1000
    if ports < dram.bandwidth_gb_per_s:
        yield ("noc", "sm_port_bytes_per_cycle"), f"lets all SMs together take {ports:,.0f} GB/s, less than DRAM gives"
    if dram.row_active_ns < dram.row_to_column_ns:
        yield (
            ("dram", "row_active_ns"),
            f"is below row_to_column_ns ({dram.row_to_column_ns:g}): the row would close before its first column",
        )
    if dram.refresh_ns > 0.2 * dram.refresh_interval_ns:
        yield ("dram", "refresh_ns"), f"takes {dram.refresh_ns / dram.refresh_interval_ns:.0%} of the time"
    if spec.shared_memory.banks * spec.shared_memory.bank_bytes < spec.noc.sm_port_bytes_per_cycle:
        yield ("shared_memory", "banks"), "take fewer bytes a cycle than the SM's port brings"


def _kernels(spec: GpuSpec) -> Iterator[Remark]:
    compressed = [mma.nm for mma in spec.tensor_core.mma if mma.nm is not None]
    if compressed and spec.kernels.raster_width_for(compressed=True) == 1:
        needed = max(LARGE * pattern.compressed_k(LARGE) * FP16_BYTES for pattern in compressed)
        if spec.l2.capacity_bytes < needed:
            problem = (
                f"holds no compressed FP16 operand of {LARGE} x {LARGE} ({needed:,} bytes), and kernels.nm_raster_width 1 walks along it"
            )
            yield ("l2", "capacity_bytes"), f"{problem}: N:M kernels fetch it over and over; set a wider band there, for example 8"
    for name, tiles in (("tiles", spec.kernels.tiles), ("nm_tiles", spec.kernels.nm_tiles)):
        for position, tile in enumerate(tiles):
            path: KeyPath = ("kernels", name, position)
            needed, limit = shared_memory_needed(tile), spec.sm.shared_memory_per_cta_bytes
            if needed > limit and name == "tiles":
                yield (*path, "stages"), f"need {needed} bytes of shared memory, a CTA has {limit}: a dense kernel never uses this tile"
            needed_nm = tile.stages * (tile.cta[0] * tile.cta[2] * 9 // 16 + tile.cta[1] * tile.cta[2])  # half of A and its metadata
            if needed_nm > limit and name == "nm_tiles" and any(mma.pattern == "2:4" for mma in spec.tensor_core.mma):
                yield (
                    (*path, "stages"),
                    f"need {needed_nm} bytes of shared memory, a CTA has {limit}: a 2:4 FP16 kernel never uses this tile",
                )
            warps = tile.cta[0] // tile.warp[0] * (tile.cta[1] // tile.warp[1])
            registers = warps * 32 * (tile.warp[0] * tile.warp[1] // 32 + spec.kernels.registers_per_thread)
            if registers > spec.sm.registers:
                yield path, f"needs {registers} registers a CTA, an SM has {spec.sm.registers}"
            if warps > spec.sm.max_warps:
                yield (*path, "warp"), f"makes {warps} warps a CTA, an SM holds {spec.sm.max_warps}"


def _peak_power_w(spec: GpuSpec) -> Iterator[tuple[str, float]]:
    """(element type, W that its dense MACs burn at the peak rate, static power included)."""
    for dtype, picojoule in spec.energy.mac_pj.items():
        boost_pj = picojoule * spec.power.switching_energy_ratio(spec.clock.boost_mhz)
        yield dtype, spec.power.static_w + spec.peak_macs_per_cycle(dtype) * boost_pj * spec.clock.boost_mhz * 1e-6


def _power(spec: GpuSpec) -> Iterator[Remark]:
    for dtype, watts in _peak_power_w(spec):
        if spec.power.board_limit_w < watts <= IMPOSSIBLE_POWER * spec.power.board_limit_w:
            yield ("energy", "mac_pj", dtype), f"burns {watts:,.0f} W at the dense peak rate before any byte moves, above board_limit_w"
