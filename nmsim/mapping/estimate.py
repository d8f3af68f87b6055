"""How long a kernel would take, in closed form: only to rank kernels by; the machine simulates the promising ones.

Known to it: which unit bounds a k-tile on its SM, how many CTAs really share one, waves, what a split reduction adds, the bytes that
L2 and DRAM move at least, what a raster band reads again of an operand that is too large for the L2, and the joules that the board's
limit lets through. Not known: queues, what else the L2 holds, edges of tiles.
"""

from __future__ import annotations

from collections.abc import Callable

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.mapping.cluster import l2_bytes_per_k_tile, tile_bytes
from nmsim.mapping.ctas import count_ctas
from nmsim.mapping.plan import MainloopKey
from nmsim.mapping.problem import Problem
from nmsim.rules.fragments import Fragments, strip_bytes, strips_of

_FIRST_OPERANDS_CYCLES = 700
"""An unloaded way of the first operands from DRAM, and the fill of the pipe."""
_EXPOSED_WAVE = 0.3
"""Share of a later wave's beginning and end that other CTAs of the SM do not hide, where there are any."""
_CLOCK_HALVINGS = 8
"""Of the interval in which the clock under the board's limit lies: to a few MHz."""
_EXPOSED_DRAM = 0.5
"""Share of the transfers from DRAM that nothing hides: SMs that start together ask for whole L2 blocks before their first k-tile."""


def estimator(
    spec: GpuSpec, problem: Problem, key: MainloopKey, fragments: Fragments, mma: MmaSpec, occupancy: int
) -> Callable[..., float]:
    """A function of the slices of a split reduction that gives cycles of the top clock, good enough to rank by.

    With `stream_k` all SMs end together, after one hand-over and the end of one tile more.
    """
    tile, cycles_per_ns, sms = key.cta_tile, spec.clock.top_mhz / 1000, spec.sm.count
    tiles, k_tiles = count_ctas(problem.groups, problem.batch, tile, 1), k_tiles_of(problem, tile)
    port_bytes = spec.shared_memory.banks * spec.shared_memory.bank_bytes
    write = tile[0] * tile[1] * problem.groups[0].output.bits / 8 / spec.noc.sm_write_bytes_per_cycle
    exchange = strips_of(key) * 2 * (strip_bytes(key) / port_bytes + spec.shared_memory.latency_cycles)
    epilogue = max(write, exchange)
    stored = sum(tensor.rows * tensor.pitch_bytes for tensor in problem.tensors)
    from_l2 = l2_bytes_per_k_tile(key, problem.groups[0], spec.kernels.cluster)
    l2 = k_tiles * from_l2 / spec.l2.bandwidth_gb_per_s * cycles_per_ns
    dram = stored / spec.dram.bandwidth_gb_per_s * cycles_per_ns
    walked, again = _walk(spec, problem, key, occupancy)
    chip_pj, dram_pj = _energy_pj(spec, key, fragments, mma, from_l2, k_tiles, stored)
    hand_over = epilogue + strips_of(key) * spec.l2.near_latency_cycles + spec.kernels.split_k_handover_ns * cycles_per_ns
    periods = [_k_tile_cycles(spec, key, fragments, mma, sharing) for sharing in range(1, occupancy + 1)]

    def cycles(slices: int, *, stream_k: bool = False) -> float:
        per_sm = -(-tiles * slices // sms)
        cta = k_tiles / tiles / slices * periods[min(occupancy, per_sm) - 1]
        waves = -(-per_sm // occupancy) + stream_k
        exposed = waves if occupancy == 1 else 1 + _EXPOSED_WAVE * (waves - 1)
        work = tiles / sms * cta if stream_k else per_sm * cta
        mainloop = work + exposed * (spec.sm.cta_launch_cycles + _FIRST_OPERANDS_CYCLES + epilogue)
        fetched_again = (
            again if walked / slices > spec.l2.capacity_bytes / (spec.l2.partitions if spec.l2.copies_far_blocks else 1) else 0.0
        )
        from_dram = dram + fetched_again / spec.dram.bandwidth_gb_per_s * cycles_per_ns
        all_of_it = max(mainloop + _EXPOSED_DRAM * dram, _FIRST_OPERANDS_CYCLES + max(l2, from_dram))
        idle = work - tiles * slices / sms * cta if per_sm > 1 else 0.0  # the limit holds while all SMs are at work
        return idle + _cycles_under_limit(spec, all_of_it - idle, chip_pj, dram_pj) + (slices - 1 + stream_k) * hand_over

    return cycles


def _walk(spec: GpuSpec, problem: Problem, key: MainloopKey, occupancy: int) -> tuple[float, float]:
    """Bytes of the operand that a band of the raster walks along (A, of the first group), and those that bands after the first read again.

    They come from DRAM again where a slice of K of that operand does not stay in the L2. A launch that covers whole columns of tiles
    at once walks along several bands together.
    """
    group, (tile_m, tile_n, tile_k) = problem.groups[0], key.cta_tile
    tiles_m, tiles_n = -(-group.m // tile_m), -(-group.n // tile_n)
    walked = float(tiles_m * tile_bytes(key)[0] * -(-group.k // tile_k))
    width = max(spec.kernels.raster_width_for(compressed=problem.pattern is not None), spec.sm.count * occupancy // tiles_m, 1)
    return walked, walked * (-(-tiles_n // width) - 1)


def k_tiles_of(problem: Problem, tile: tuple[int, int, int]) -> int:
    """k-tiles of all CTAs together, however the reduction is split."""
    return sum(-(-g.m // tile[0]) * -(-g.n // tile[1]) * -(-g.k // tile[2]) for g in problem.groups) * problem.batch


def _k_tile_cycles(spec: GpuSpec, key: MainloopKey, fragments: Fragments, mma: MmaSpec, sharing: int) -> float:
    """Cycles from one k-tile to the next on an SM that `sharing` CTAs share: of what bounds it, the slowest.

    Tensor cores (or what feeds them: register port, decoder, selector), shared-memory port, SM port, and two waits that only other CTAs
    hide: for dependent MMAs, and for operands, of which so many stages are under way (none where copies are synchronous).
    """
    core, mmas = spec.tensor_core, fragments.mmas_per_k_tile * fragments.warps
    each = max(
        mma.issue_interval_cycles * (1 if mma.nm is None else core.decoder.selector_turns(mma.nm.m)),
        fragments.register_bytes_per_mma / core.register_read_bytes_per_cycle,
        fragments.codes_per_mma / core.decoder.codes_per_cycle,
    )
    port = _port_bytes(key, fragments, mma) / (spec.shared_memory.banks * spec.shared_memory.bank_bytes)
    load = key.copy_bytes / spec.noc.sm_port_bytes_per_cycle
    busy = max(mmas * each / core.per_sm, port, fragments.k_steps * mma.latency_cycles / sharing)
    latency = (spec.l2.near_latency_cycles + spec.l2.far_latency_cycles) / 2 * spec.clock.top_mhz / spec.l2.clock_mhz
    waiting = (latency + load) / key.lookahead if key.lookahead else busy + latency + load
    return max(busy, load, waiting / sharing)


def _port_bytes(key: MainloopKey, fragments: Fragments, mma: MmaSpec) -> int:
    """Bytes of a k-tile through the shared-memory port: copied in, and read as fragments or by the instructions themselves."""
    instructions = fragments.mmas_per_k_tile * fragments.warps // mma.warps
    return fragments.warps * fragments.k_steps * sum(fragments.loads) + instructions * fragments.streamed_bytes + key.copy_bytes


def _energy_pj(
    spec: GpuSpec, key: MainloopKey, fragments: Fragments, mma: MmaSpec, from_l2: float, k_tiles: int, stored_bytes: int
) -> tuple[float, float]:
    """Dynamic energy on the chip, at its lowest voltage, and in DRAM, where each stored byte passes once; `from_l2` bytes a k-tile."""
    energy, (m, n, k) = spec.energy, mma.shape
    executed = fragments.mmas_per_k_tile * fragments.warps * m // mma.warps * n * (k if mma.nm is None else mma.nm.compressed_k(k))
    k_tile_pj = (
        executed * energy.mac_pj.get(key.dtype, 0.0)
        + _port_bytes(key, fragments, mma) * energy.shared_memory_pj_per_byte
        + from_l2 * energy.l2_pj_per_byte
    )
    chip_pj = (k_tiles * k_tile_pj + stored_bytes * energy.l2_pj_per_byte) * energy.switching_activity[energy.operand_values]
    return chip_pj, stored_bytes * energy.dram_pj_per_byte


def _cycles_under_limit(spec: GpuSpec, cycles: float, chip_pj: float, dram_pj: float) -> float:
    """Cycles of the top clock that `cycles` of work take at the highest clock at which the board's limit allows their energy."""
    top_mhz, most = spec.clock.top_mhz, (spec.power.board_limit_w - spec.power.static_w) * cycles * 1e6

    def allowed(clock_mhz: float) -> bool:
        return clock_mhz * (chip_pj * spec.power.switching_energy_ratio(clock_mhz) + dram_pj) <= most

    if allowed(top_mhz):
        return cycles
    lowest, highest = most / (chip_pj * spec.power.switching_energy_ratio(top_mhz) + dram_pj), float(top_mhz)
    for _ in range(_CLOCK_HALVINGS):
        middle = (lowest + highest) / 2
        lowest, highest = (middle, highest) if allowed(middle) else (lowest, middle)
    return cycles * top_mhz / lowest
