"""The SM level: warps of the resident CTAs run their mainloop instruction by instruction, operands resident.

Each warp is a simpy process: at the top of a k-tile it meets its CTA at a barrier; then, k-step by k-step, it issues a
part of its copies for a later stage, loads the next step's fragments of A, B and E from shared memory and issues the
MMAs of this one (the copies are spread over the steps, as CUTLASS's multistage mainloop does). A kernel of one
stage copies and computes in turn, one that reloads its fragments for every row of MMAs waits for them. Warps share four
schedulers, four tensor cores and one shared-memory port. The result is the contract of `nmsim.hw.mainloop`:
cycles per k-tile for 1, 2, ... resident CTAs, fill, drain, port bytes, stalls.

Modelled: in-order issue, one warp instruction a scheduler and cycle, fragment double buffering, accumulator
dependences, barriers, port contention between reads and copy writes, metadata loads and decode, register reads.
Not modelled: address arithmetic and loop overhead instructions, instruction fetch, L1, waiting for data (chip level), an
epilogue's strips in the way of another CTA's fragments.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from simpy.events import Event

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.engine.environment import KeyedEnvironment
from nmsim.hw.mainloop import MEASURED_K_TILES, WARM_UP_K_TILES, MainloopTiming
from nmsim.hw.shared_memory import SharedMemoryPort
from nmsim.hw.tensor_core import TensorCore, tensor_cores
from nmsim.hw.warpgroup import WarpgroupMainloop, mainloop_fragments
from nmsim.mapping.plan import MainloopKey
from nmsim.rules.fragments import WARP_LOAD_BYTES, Instruction, instruction_of, strip_bytes
from nmsim.rules.loads import Access, copies, step_loads
from nmsim.rules.stalls import STALL_NAMES

Process = Generator[Event, None, None]


@dataclass
class _Cta:
    """A resident CTA: its barrier and when each of its k-tiles was through."""

    warps: int
    arrived: int
    gate: Event
    completed: list[int]


@dataclass
class _Accesses:
    """Loads of the fragments for one part of a k-step and copies beside them, as far as they are not issued yet."""

    loads: Sequence[Access] = ()
    copies: Sequence[Access] = ()
    ready: int = 0
    """Cycle at which all that was loaded is in registers."""
    queued: int = 0
    """Cycles that the last of it waited for the port."""


class SmMainloop:
    """One SM with `residents` CTAs of one mainloop; `run` it once."""

    def __init__(self, spec: GpuSpec, key: MainloopKey, mma: MmaSpec, residents: int) -> None:
        self._key, self._mma, self._fragments = key, mma, mainloop_fragments(spec, key, mma)
        self._env = KeyedEnvironment()
        memory = spec.shared_memory
        self.port = SharedMemoryPort(memory.banks * memory.bank_bytes, memory.latency_cycles)
        per_mma = self._fragments.codes_per_mma, self._fragments.register_bytes_per_mma
        self.cores = tensor_cores(spec.tensor_core, mma, *per_mma, count=spec.tensor_core.per_sm)
        code = None if mma.nm is None else spec.metadata_code(key.dtype, mma.nm)
        warps, banks, one = self._fragments.warps, (memory.banks, memory.bank_bytes), instruction_of(mma, key.dtype, code)
        self._rows = 1 if key.fragments == "prefetched" else -(-key.warp_tile[0] // mma.shape[0])
        """Parts of a k-step that load their own fragments: all of it, or each row of MMAs."""
        rows_of_a = key.warp_tile[0] // self._rows
        self._loads = [step_loads(key, one, rows_of_a, step, banks) for step in range(self._fragments.k_steps)]
        self._copies = [k_tile_copies(key, one, warp, warps, banks) for warp in range(warps)]
        self._shadow = max(1, int(mma.issue_interval_cycles) - 1)
        """Other instructions that a warp issues between two of its MMAs without holding the second up."""
        self._issue_free = [0] * spec.sm.schedulers
        self._k_tiles = WARM_UP_K_TILES + MEASURED_K_TILES
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
        core, copies = self.cores[slot % len(self.cores)], self._copies[slot % cta.warps]
        in_turn, reloaded = self._key.stages == 1, self._key.fragments == "reloaded"
        accumulators, first = [0] * self._fragments.mmas_per_step, _Accesses()
        yield env.until(begin, slot)
        for k_tile in range(self._k_tiles):
            if not in_turn and not reloaded and k_tile == 0:
                self._issue_all(slot, first := _Accesses(self._loads[0]))
            yield from self._barrier(cta)
            if in_turn:
                yield from self._copy(slot, copies)
                yield from self._barrier(cta)
                if not reloaded:
                    self._issue_all(slot, first := _Accesses(self._loads[0]))
            for step in range(steps):
                share = () if in_turn else copies[len(copies) * step // steps : len(copies) * (step + 1) // steps]
                last = step + 1 == steps and (in_turn or k_tile + 1 == self._k_tiles)  # what follows is not there yet, or never
                ahead = _Accesses(() if reloaded or last else self._loads[(step + 1) % steps], share)
                for row in range(self._rows):
                    if reloaded:
                        self._issue_all(slot, first := _Accesses(self._loads[step]))
                    yield from self._issue_row(slot, core, accumulators, row, first, ahead)
                self._issue_all(slot, ahead)
                first = ahead
            cta.completed[k_tile] = max(cta.completed[k_tile], core.free_at)
        self.last_result = max(self.last_result, max(accumulators))

    def _issue_row(self, slot: int, core: TensorCore, accumulators: list[int], row: int, loaded: _Accesses, ahead: _Accesses) -> Process:
        """Issue the MMAs that the loaded fragments are for, and what lies ahead in their shadow: the slots until the next one."""
        mmas = len(accumulators) // self._rows
        for mma in range(row * mmas, (row + 1) * mmas):
            self._issue_some(slot, ahead, self._shadow)
            yield self._env.until(self._issue(slot), slot)
            start, accumulators[mma] = core.issue(self._env.tick, loaded.ready, loaded.queued, accumulators[mma])
            if start > self._env.tick:
                yield self._env.until(start, slot)

    def _issue_all(self, slot: int, accesses: _Accesses) -> None:
        self._issue_some(slot, accesses, len(accesses.loads) + len(accesses.copies))

    def _issue_some(self, slot: int, accesses: _Accesses, most: int) -> None:
        """Issue up to `most` accesses, loads first; of asynchronous copies nobody waits for the end."""
        for _ in range(most):
            if accesses.loads:
                load, *accesses.loads = accesses.loads
                data, waited = self.port.read(self._issue(slot), load.nbytes, load.port_bytes)
                if data > accesses.ready:
                    accesses.ready, accesses.queued = data, waited
            elif accesses.copies:
                copy, *accesses.copies = accesses.copies
                if self._key.copy == "sync":
                    self._load_to_registers(slot, copy)
                self.port.write(self._issue(slot), copy.nbytes, copy.port_bytes)
            else:
                return

    def _copy(self, slot: int, copies: Sequence[Access]) -> Process:
        """Bring a warp's share of a k-tile and wait until it is there."""
        there = 0
        if self._key.copy == "sync":
            for access in copies:
                there = max(there, self._load_to_registers(slot, access))
            yield self._env.until(max(there, self._env.tick), slot)
        for access in copies:
            there = max(there, self.port.write(self._issue(slot), access.nbytes, access.port_bytes))
        yield self._env.until(max(there, self._env.tick), slot)

    def _load_to_registers(self, slot: int, access: Access) -> int:
        """The first half of a synchronous copy; returns the cycle the data are in registers.

        They pass the array that L1 and shared memory share into a line of the L1 and from there to registers; the store that
        follows is a third pass.
        """
        at = self._issue(slot)
        self.port.write(at, access.nbytes, access.nbytes)
        return self.port.read(at, access.nbytes, access.nbytes)[0]

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


def k_tile_copies(key: MainloopKey, one: Instruction, warp: int, warps: int, banks: tuple[int, int]) -> tuple[Access, ...]:
    """The writes that bring one warp's share of A, B and E of a k-tile to shared memory."""
    steps = -(-key.cta_tile[2] // key.mma_shape[2])
    row_bytes = one.a_row_bits * steps // 8, one.b_row_bits * steps // 8
    of_a, of_b = row_bytes[0] * key.cta_tile[0], row_bytes[1] * key.cta_tile[1]
    of_e = max(0, key.copy_bytes - of_a - of_b)
    return (
        *copies(key.layout, row_bytes[0], share_of(of_a, warp, warps), banks),
        *copies(key.layout, row_bytes[1], share_of(of_b, warp, warps), banks),
        *copies("linear", WARP_LOAD_BYTES, share_of(of_e, warp, warps), banks),
    )


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
        exchange_cycles=exchange_cycles(spec, key),
        shared_memory_bytes=port_bytes,
        stall_share=tuple(shares),
    )


def exchange_cycles(spec: GpuSpec, key: MainloopKey) -> int:
    """Cycles of one epilogue strip on an idle port: written, a barrier later read back, each with the port's latency."""
    memory = spec.shared_memory
    return 2 * (-(-strip_bytes(key) // (memory.banks * memory.bank_bytes)) + memory.latency_cycles)


def find_mma(spec: GpuSpec, key: MainloopKey) -> MmaSpec:
    """The instruction a mainloop was planned for."""
    return next(mma for mma in spec.wide_mma if mma.dtype == key.dtype and mma.pattern == key.pattern and tuple(mma.shape) == key.mma_shape)


def _stall_share(sm: SmMainloop | WarpgroupMainloop) -> dict[str, float]:
    """Share of the tensor cores' idle cycles by cause."""
    idle = [sum(core.idle[reason] for core in sm.cores) for reason in range(len(STALL_NAMES))]
    total = sum(idle)
    return {name: cycles / total for name, cycles in zip(STALL_NAMES, idle, strict=True) if cycles} if total else {}
