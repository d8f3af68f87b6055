"""The SM level: warps of the resident CTAs run their mainloop instruction by instruction, operands resident.

Each warp is a simpy process: at the top of a k-tile it meets its CTA at a barrier; then, k-step by k-step, it issues a
part of its copies for a later stage, loads the next step's fragments of A, B and E from shared memory and issues the
MMAs of this one (the copies are spread over the steps, as CUTLASS's multistage mainloop does). Warps share four
schedulers, four tensor cores and one shared-memory port. The result is the contract of `nmsim.hw.mainloop`:
cycles per k-tile for 1, 2, ... resident CTAs, fill, drain, port bytes, stalls.

Modelled: in-order issue, one warp instruction a scheduler and cycle, fragment double buffering, accumulator
dependences, barriers, port contention between reads and copy writes, metadata loads and decode, register reads.
Not modelled: address arithmetic and loop overhead instructions, instruction fetch, L1, waiting for data (chip level).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from simpy.events import Event

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.engine.environment import KeyedEnvironment
from nmsim.hw.mainloop import MEASURED_K_TILES, WARM_UP_K_TILES, MainloopTiming
from nmsim.hw.shared_memory import SharedMemoryPort
from nmsim.hw.tensor_core import tensor_cores
from nmsim.hw.warpgroup import WarpgroupMainloop, mainloop_fragments
from nmsim.mapping.plan import MainloopKey
from nmsim.rules.banks import ldmatrix_passes
from nmsim.rules.stalls import STALL_NAMES
from nmsim.units import element_bits

Process = Generator[Event, None, None]


@dataclass
class _Cta:
    """A resident CTA: its barrier and when each of its k-tiles was through."""

    warps: int
    arrived: int
    gate: Event
    completed: list[int]


class SmMainloop:
    """One SM with `residents` CTAs of one mainloop; `run` it once."""

    def __init__(self, spec: GpuSpec, key: MainloopKey, mma: MmaSpec, residents: int) -> None:
        self._key, self._mma, self._fragments = key, mma, mainloop_fragments(spec, key, mma)
        self._env = KeyedEnvironment()
        memory = spec.shared_memory
        self.port = SharedMemoryPort(memory.banks * memory.bank_bytes, memory.latency_cycles)
        pitch = key.cta_tile[2] * element_bits(key.dtype) // 8
        self._passes = ldmatrix_passes(pitch, memory.banks, memory.bank_bytes, 1)
        per_mma = self._fragments.codes_per_mma, self._fragments.register_bytes_per_mma
        self.cores = tensor_cores(spec.tensor_core, mma, *per_mma, count=spec.tensor_core.per_sm)
        self._issue_free = [0] * spec.sm.schedulers
        self._k_tiles = WARM_UP_K_TILES + MEASURED_K_TILES
        warps = self._fragments.warps
        self.ctas = [_Cta(warps, 0, self._env.event(), [0] * self._k_tiles) for _ in range(residents)]
        self.last_result = 0

    def run(self) -> None:
        """Run every CTA for the measured k-tiles; CTAs start evenly spread over one k-tile, as they drift to be."""
        warps = self._fragments.warps
        per_core = self._fragments.mmas_per_k_tile * warps / len(self.cores)
        stagger = int(per_core * self._mma.issue_interval_cycles)
        for index in range(len(self.ctas)):
            for warp in range(warps):
                slot = index * warps + warp
                self._env.process(self._warp(index, slot, stagger * index // len(self.ctas)))
        self._env.run()

    def _warp(self, cta_index: int, slot: int, begin: int) -> Process:
        env, cta, steps = self._env, self.ctas[cta_index], self._fragments.k_steps
        core, mmas = self.cores[slot % len(self.cores)], self._fragments.mmas_per_step
        accumulators, copies = [0] * mmas, self._key.copy_bytes // cta.warps
        yield env.until(begin, slot)
        ready, queued = self._load_fragments(slot)
        for k_tile in range(self._k_tiles):
            yield from self._barrier(cta)
            for step in range(steps):
                self.port.write(env.tick, share_of(copies, step, steps))
                following = self._load_fragments(slot)
                for mma in range(mmas):
                    yield env.until(self._issue(slot), slot)
                    start, accumulators[mma] = core.issue(env.tick, ready, queued, accumulators[mma])
                    if start > env.tick:
                        yield env.until(start, slot)
                ready, queued = following
            cta.completed[k_tile] = max(cta.completed[k_tile], core.free_at)
        self.last_result = max(self.last_result, max(accumulators))

    def _barrier(self, cta: _Cta) -> Process:
        """Wait for all warps of the CTA."""
        cta.arrived += 1
        if cta.arrived < cta.warps:
            yield cta.gate
        else:
            cta.arrived = 0
            gate, cta.gate = cta.gate, self._env.event()
            gate.succeed()

    def _issue(self, slot: int) -> int:
        """Take an issue slot of the warp's scheduler; returns its cycle."""
        scheduler = slot % len(self._issue_free)
        cycle = max(self._env.tick, self._issue_free[scheduler])
        self._issue_free[scheduler] = cycle + 1
        return cycle

    def _load_fragments(self, slot: int) -> tuple[int, int]:
        """Issue the loads of one k-step's fragments; returns (cycle all are in registers, cycles the last one queued)."""
        ready, queued = 0, 0
        for nbytes in self._fragments.loads:
            data, waited = self.port.read(self._issue(slot), nbytes, self._passes)
            if data > ready:
                ready, queued = data, waited
        return ready, queued


def share_of(total: int, part: int, parts: int) -> int:
    """Part `part` of `total` split into `parts` as evenly as integers go; all of them sum to `total`."""
    return total * (part + 1) // parts - total * part // parts


def simulate_mainloop(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    """Cycles per k-tile of a mainloop for 1 .. `occupancy` resident CTAs, with fill, drain and stalls."""
    mma = find_mma(spec, key)
    fragments = mainloop_fragments(spec, key, mma)
    busy = fragments.mmas_per_k_tile * fragments.warps * mma.issue_interval_cycles / spec.tensor_core.per_sm
    periods, shares = [], []
    fill = drain = port_bytes = 0
    for residents in range(1, occupancy + 1):
        sm = (WarpgroupMainloop if mma.reads_shared_memory else SmMainloop)(spec, key, mma, residents)
        sm.run()
        spans = sum(cta.completed[-1] - cta.completed[WARM_UP_K_TILES - 1] for cta in sm.ctas)
        period = (spans, MEASURED_K_TILES * residents * residents)
        if period[0] < busy * period[1]:  # a window that cuts a burst: the pipe itself is the bound
            period = (round(busy * period[1] + 0.5), period[1])
        periods.append(period)
        shares.append(_stall_share(sm))
        if residents == 1:
            fill = max(0, sm.ctas[0].completed[0] - period[0] // period[1])
            drain = max(0, sm.last_result - sm.ctas[0].completed[-1])
            port_bytes = sm.port.bytes // (WARM_UP_K_TILES + MEASURED_K_TILES)
    return MainloopTiming(
        period=tuple(periods),
        busy_cycles=(round(busy * 1000), 1000),
        fill_cycles=fill,
        drain_cycles=drain,
        shared_memory_bytes=port_bytes,
        stall_share=tuple(shares),
    )


def find_mma(spec: GpuSpec, key: MainloopKey) -> MmaSpec:
    """The instruction a mainloop was planned for."""
    return next(mma for mma in spec.wide_mma if mma.dtype == key.dtype and mma.pattern == key.pattern and tuple(mma.shape) == key.mma_shape)


def _stall_share(sm: SmMainloop | WarpgroupMainloop) -> dict[str, float]:
    """Share of the tensor cores' idle cycles by cause."""
    idle = [sum(core.idle[reason] for core in sm.cores) for reason in range(len(STALL_NAMES))]
    total = sum(idle)
    return {name: cycles / total for name, cycles in zip(STALL_NAMES, idle, strict=True) if cycles} if total else {}
