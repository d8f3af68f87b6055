"""A mainloop of warpgroup instructions (Hopper's wgmma): operands straight from shared memory, issued asynchronously.

Four warps issue one instruction together, and it runs on the four tensor cores in step, each with a quarter of its m; so one
pipe stands for the four. Each warpgroup puts a k-tile's instructions in flight without waiting, then waits for those of the
k-tile before and releases its stage, which a producer warp refills (TMA: no instructions, no registers of the consumers).
The result is the contract of `nmsim.hw.mainloop`, as of `nmsim.hw.sm_level`.

Modelled: reads of A and B by each instruction through the one port, beside copy writes; metadata through registers; issue
interval, latency and accumulator chains; decode; accumulators' register traffic.
Not modelled: A from registers, the producer's own issue slots, the order in which the warpgroups' instructions mix within a k-tile.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from simpy.events import Event

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.engine.environment import KeyedEnvironment
from nmsim.hw.mainloop import MEASURED_K_TILES, WARM_UP_K_TILES
from nmsim.hw.shared_memory import SharedMemoryPort
from nmsim.hw.tensor_core import tensor_cores
from nmsim.mapping.plan import MainloopKey
from nmsim.rules.fragments import Fragments, fragments_of

Process = Generator[Event, None, None]


@dataclass
class _Cta:
    """A resident CTA: when each of its k-tiles was through."""

    completed: list[int]


class WarpgroupMainloop:
    """One SM with `residents` CTAs of one mainloop of warpgroup instructions; `run` it once."""

    def __init__(self, spec: GpuSpec, key: MainloopKey, mma: MmaSpec, residents: int) -> None:
        self._key, self._mma, self._fragments = key, mma, mainloop_fragments(spec, key, mma)
        self._env = KeyedEnvironment()
        memory = spec.shared_memory
        self._port_bytes = memory.banks * memory.bank_bytes
        self.port = SharedMemoryPort(self._port_bytes, memory.latency_cycles)
        per_mma = self._fragments.codes_per_mma, self._fragments.register_bytes_per_mma
        self.cores = tensor_cores(spec.tensor_core, mma, *per_mma, count=1)
        self._k_tiles = WARM_UP_K_TILES + MEASURED_K_TILES
        self._groups = self._fragments.warps // mma.warps
        self.ctas = [_Cta([0] * self._k_tiles) for _ in range(residents)]
        self.last_result = 0

    def run(self) -> None:
        """Run every CTA for the measured k-tiles; CTAs start evenly spread over one k-tile, as they drift to be."""
        stagger = int(self._fragments.mmas_per_k_tile * self._groups * self._mma.issue_interval_cycles)
        for index, cta in enumerate(self.ctas):
            for group in range(self._groups):
                slot = index * self._groups + group
                self._env.process(self._warpgroup(cta, slot, stagger * slot // (len(self.ctas) * self._groups)))
        self._env.run()

    def _warpgroup(self, cta: _Cta, slot: int, begin: int) -> Process:
        env, core, fragments = self._env, self.cores[0], self._fragments
        accumulators = [0] * fragments.mmas_per_step
        before = 0
        yield env.until(begin, slot)
        for k_tile in range(self._k_tiles):
            copied = self._key.copy_bytes // self._groups
            self.port.write(env.tick, copied, copied)
            for _ in range(fragments.k_steps):
                registers = self._load_metadata()
                for mma in range(fragments.mmas_per_step):
                    ready, queued = self._stream_operands()
                    _, accumulators[mma] = core.issue(env.tick, max(ready, registers), queued, accumulators[mma])
                    yield env.until(env.tick + 1, slot)
            cta.completed[k_tile] = max(cta.completed[k_tile], core.free_at)
            if before > env.tick:
                yield env.until(before, slot)
            before = core.free_at
        self.last_result = max(self.last_result, max(accumulators))

    def _stream_operands(self) -> tuple[int, int]:
        """Book one instruction's operands; returns (earliest start that lets the last of them arrive in time, cycles queued)."""
        nbytes = self._fragments.streamed_bytes
        arrived, waited = self.port.read(self._env.tick, nbytes, nbytes)
        first = arrived - nbytes // self._port_bytes
        return max(first, arrived - int(self._mma.issue_interval_cycles)), max(0, waited - nbytes // self._port_bytes)

    def _load_metadata(self) -> int:
        """Book the loads of one k-step's metadata into the registers of a warpgroup; returns the cycle they have arrived."""
        ready = 0
        for nbytes in self._fragments.loads:
            loaded = nbytes * self._mma.warps
            ready = max(ready, self.port.read(self._env.tick, loaded, loaded)[0])
        return ready


def mainloop_fragments(spec: GpuSpec, key: MainloopKey, mma: MmaSpec) -> Fragments:
    """How a mainloop falls apart on this machine, whose decoder fixes what metadata look like."""
    return fragments_of(key, mma, None if mma.nm is None else spec.metadata_code(key.dtype, mma.nm))
