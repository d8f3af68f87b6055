"""A whole training step under several schemes: every GEMM, operator and pass as kernels of one machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from nmsim.arch.spec import GpuSpec
from nmsim.energy.model import average_power_w
from nmsim.mapping.layout import require_memory
from nmsim.mapping.stream import plan_stream
from nmsim.result.rows import KernelRow
from nmsim.rules.stalls import STALL_NAMES
from nmsim.run.bound import bound_of
from nmsim.run.choice import IN_ORDER, RunOptions, best_kernel, compute_cycles, run_at
from nmsim.run.formats import FALLS_BACK, FORMATS, lower_format, recorded_remainder
from nmsim.run.in_order import run_in_order, tensor_names
from nmsim.run.kernel import KernelRun
from nmsim.run.power import clock_under_limit, kernel_energy
from nmsim.run.schemes import Lowered, lower
from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm
from nmsim.workload.trace import Operator, SparsifyPass, Trace

Progress = Callable[[int, int, str], None]
"""Called with kernels done, kernels in all, and what is being simulated."""
NEAR_THE_LIMIT = 0.0025
"""A clock at which a step is foretold to draw all of the board's power but so small a share is not run to see that it is too high. The
power of a ResNet-50 step at one clock leaves the curve through others by 0.1 % (root mean square of 24); a clock step moves it by 2 %."""


@dataclass(frozen=True, eq=False)
class Work:
    """One row of the step before it is timed: a kernel, how often it is launched a step, and what to call it."""

    identifier: str
    module: str
    kind: str
    phase: str
    shape: tuple[int, int, int, int]
    launches: int
    steps_between: int
    ran_sparse: bool
    reason: str
    native: str
    kernel: str
    run: KernelRun
    tensors: tuple[Hashable, ...] = ()
    """Names of its tensors where it takes part in `--l2 step` (`nmsim.run.in_order`)."""


class Simulator:
    """Runs the distinct kernels of traces on one machine, each once per clock.

    One simulator may serve several traces, and gives each the rows that a new one would: a kernel is known by its content.
    """

    def __init__(self, spec: GpuSpec, options: RunOptions) -> None:
        self.spec, self.options = spec, options
        self._boost: dict[Hashable, KernelRun] = {}
        self._at_clock: dict[tuple[int, int], KernelRun] = {}
        self._compute: dict[int, float] = {}

    def scheme_rows(self, trace: Trace, scheme: str, progress: Progress) -> list[KernelRow]:
        """All rows of a step under one scheme, at the clock that the board's power limit leaves for that step."""
        works = [*self._gemm_works(trace, scheme, progress), *self._operator_works(trace, progress)]
        if scheme == "traced":
            works += self._pass_works(trace, progress)
        by_clock: dict[int, list[Work]] = {}

        def power_at(clock_mhz: int) -> float:
            if clock_mhz not in by_clock:
                by_clock[clock_mhz] = self._all_at(works, clock_mhz, progress)
            return self._average_power_w(by_clock[clock_mhz])

        often = [(work.launches / work.steps_between, work.run) for work in works]
        clock_mhz = clock_under_limit(self.spec, power_at, often, near=NEAR_THE_LIMIT)
        return [self._row(work, scheme) for work in by_clock[clock_mhz]]

    def _gemm_works(self, trace: Trace, scheme: str, progress: Progress) -> list[Work]:
        works = []
        for index, gemm in enumerate(trace.gemms):
            progress(index, len(trace.gemms), f"{scheme} {gemm.id}")
            works += self._product_works(trace, gemm, scheme)
        return works

    def _product_works(self, trace: Trace, gemm: Gemm, scheme: str) -> list[Work]:
        """A GEMM and its passes; dense where those take less time, if the scheme is one that then would run so."""
        works = self._works_of(trace, gemm, scheme)
        if scheme not in FALLS_BACK or not works[0].ran_sparse:
            return works
        dense = self._works_of(trace, gemm, "dense")
        ratio = self._time_us(works) / self._time_us(dense)
        if ratio <= 1:
            return works
        reason = f"{works[0].reason}; this takes {ratio:.2f} times as long as dense here, so it runs dense"
        return [replace(dense[0], reason=reason), *dense[1:]]

    def _works_of(self, trace: Trace, gemm: Gemm, scheme: str) -> list[Work]:
        """A GEMM as a scheme has it: the product first, then its passes."""
        if scheme in FORMATS or (scheme == "traced" and recorded_remainder(trace, gemm)):
            return self._format_works(trace, gemm, scheme)
        lowered = lower(self.spec, trace, gemm, scheme)
        return [*self._lowered_works(gemm, lowered), *self._zeroing_works(gemm, lowered)]

    def _format_works(self, trace: Trace, gemm: Gemm, scheme: str) -> list[Work]:
        """A GEMM in another sparse format: on the tensor cores, and what the CUDA cores do of it."""
        formatted = lower_format(self.spec, trace, gemm, scheme)
        tensor, cuda, works = formatted.tensor, formatted.cuda, []
        if tensor is not None:
            works += self._lowered_works(gemm, replace(tensor, reason=formatted.reason))
            works += self._zeroing_works(gemm, tensor)
        if cuda is not None:
            run = self._stream(cuda.name, cuda.bytes_read, cuda.bytes_written, cuda.flops)
            identifier, kind = (gemm.id, "gemm") if tensor is None else (f"{gemm.id}:{cuda.name}", "pass")
            shape = gemm.m, gemm.n, gemm.k, gemm.l
            about = True, formatted.reason, "dense", cuda.name, run
            works.append(Work(identifier, gemm.module, kind, gemm.phase, shape, gemm.repeat, 1, *about))
        return works

    def _zeroing_works(self, gemm: Gemm, product: Lowered) -> list[Work]:
        """Zeroing dX, to which tiles then add: a row that no tile keeps would hold garbage, and the first tile may not keep it."""
        if gemm.phase != "backward_data" or not product.tile_wise:
            return []
        nbytes = gemm.m * gemm.n * gemm.l * element_bits(gemm.out_dtype) // 8
        name = "zero_dX"
        run = self._stream(name, 0, nbytes, 0)
        reason = f"dX of {gemm.id} is zeroed before its tiles add to it"
        about = False, reason, "none", name, run
        return [Work(f"{gemm.id}:{name}", gemm.module, "pass", gemm.phase, (0, 0, 0, 0), gemm.repeat, 1, *about)]

    def _transposition_works(self, gemm: Gemm, product: Work) -> list[Work]:
        """Transposed copies of the operands of a type that the hardware can't transpose on load, one pass each."""
        if gemm.dtype not in self.spec.tensor_core.compressible_only_k_contiguous or gemm.conv is not None:
            return []
        works = []
        for side, operand in (("A", gemm.a), ("B", gemm.b)):
            compressed = product.native != "dense" and operand.structure == "nm"  # its compress pass wrote it as needed
            if not operand.k_contiguous and not compressed:
                nbytes = math.prod(operand.shape) * element_bits(gemm.dtype) // 8
                name = f"transpose_{side}"
                run = self._stream(name, nbytes, nbytes, 0)
                reason = f"{gemm.dtype} can't be transposed on load: a copy of {side} of {gemm.id} with its reduction contiguous"
                identifier = f"{gemm.id}:{name}"
                works.append(Work(identifier, gemm.module, "pass", "other", (0, 0, 0, 0), gemm.repeat, 1, False, reason, "none", name, run))
        return works

    def _lowered_works(self, gemm: Gemm, lowered: Lowered) -> list[Work]:
        """A product on the tensor cores, and the transposed copies that it needs."""
        run = self._best(lowered)
        work = Work(
            identifier=gemm.id,
            module=gemm.module,
            kind="gemm",
            phase=gemm.phase,
            shape=(gemm.m, gemm.n, gemm.k, gemm.l),
            launches=gemm.repeat,
            steps_between=1,
            ran_sparse=lowered.ran_sparse,
            reason=lowered.reason,
            native=lowered.native,
            kernel=run.plan.name,
            run=run,
            tensors=tensor_names(gemm, lowered),
        )
        return [work, *self._transposition_works(gemm, work)]

    def _time_us(self, works: Sequence[Work]) -> float:
        """Of a step, launches included, at the clock that the works were run at."""
        return sum(work.launches / work.steps_between * kernel_energy(self.spec, work.run).time_us for work in works)

    def _best(self, lowered: Lowered) -> KernelRun:
        """The kernel that runs a problem, simulated once."""
        if lowered.key not in self._boost:
            self._boost[lowered.key] = best_kernel(self.spec, lowered.problem, self.options)
        return self._boost[lowered.key]

    def _operator_works(self, trace: Trace, progress: Progress) -> list[Work]:
        works = []
        for index, one in enumerate(trace.operators):
            progress(index, len(trace.operators), one.name)
            run = self._stream(one.name, one.bytes_read, one.bytes_written, one.flops)
            works.append(self._stream_work(one, one.name, "operator", "other", one.count, 1, f"{one.phase} {one.name}: no GEMM", run))
        return works

    def _pass_works(self, trace: Trace, progress: Progress) -> list[Work]:
        works = []
        for index, one in enumerate(trace.passes):
            progress(index, len(trace.passes), one.kind)
            run = self._stream(one.kind, one.bytes_read, one.bytes_written, one.operations)
            reason = f"{one.kind} pass of the recipe, every {one.every_steps} step(s)"
            works.append(self._stream_work(one, one.kind, "pass", "sparsify", 1, one.every_steps, reason, run))
        return works

    def _stream(self, name: str, bytes_read: int, bytes_written: int, flops: int) -> KernelRun:
        key = ("stream", bytes_read, bytes_written, flops)
        if key not in self._boost:
            spec = self.spec
            require_memory(spec.dram, name, bytes_read + bytes_written)
            plan = plan_stream("stream", bytes_read, bytes_written, flops, spec.l2.block_bytes, spec.dram.interleave_bytes, spec.sm.count)
            self._boost[key] = run_at(spec, plan, spec.clock.top_mhz, self.options)
        return self._boost[key]

    @staticmethod
    def _stream_work(
        one: Operator | SparsifyPass, kernel: str, kind: str, phase: str, launches: int, steps_between: int, reason: str, run: KernelRun
    ) -> Work:
        module = one.module if isinstance(one, SparsifyPass) else one.name
        return Work(one.id, module, kind, phase, (0, 0, 0, 0), launches, steps_between, False, reason, "none", kernel, run)

    def _all_at(self, works: Sequence[Work], clock_mhz: int, progress: Progress) -> list[Work]:
        """The works of a scheme at a clock, each for itself or all on one L2."""
        in_order = self.options.l2 == IN_ORDER
        at_clock = [
            work if work.run.clock_mhz == clock_mhz or (in_order and work.tensors) else self._reclocked(work, clock_mhz) for work in works
        ]
        return run_in_order(self.spec, at_clock, clock_mhz, self.options.engine, progress) if in_order else at_clock

    def _reclocked(self, work: Work, clock_mhz: int) -> Work:
        key = id(work.run.plan), clock_mhz
        if key not in self._at_clock:
            self._at_clock[key] = run_at(self.spec, work.run.plan, clock_mhz, self.options)
        return Work(**{**work.__dict__, "run": self._at_clock[key]})

    def _average_power_w(self, works: Sequence[Work]) -> float:
        energy_j = time_us = 0.0
        for work in works:
            often, energy = work.launches / work.steps_between, kernel_energy(self.spec, work.run)
            energy_j += often * energy.energy_j
            time_us += often * energy.time_us
        return average_power_w(energy_j, time_us)

    def _row(self, work: Work, scheme: str) -> KernelRow:
        """Totals over the launches of a step; a pass that runs every few steps counts with its share."""
        run, often = work.run, work.launches / work.steps_between
        energy = kernel_energy(self.spec, run)
        energy_j, time_us = often * energy.energy_j, often * energy.time_us
        m, n, k, batch = work.shape
        counters = {name: round(value * often) for name, value in vars(run.counters).items()}
        return KernelRow(
            gemm_id=work.identifier,
            module=work.module,
            kind=work.kind,
            phase=work.phase,
            scheme=scheme,
            m=m,
            n=n,
            k=k,
            l=batch,
            launches=work.launches,
            ran_sparse=work.ran_sparse,
            reason=work.reason,
            kernel=work.kernel,
            native_pattern=work.native,
            cta_tile="x".join(map(str, run.plan.mainloop.cta_tile)),
            waves=run.plan.waves(self.spec.sm.count),
            split_k=run.plan.split_k,
            clock_mhz=run.clock_mhz,
            cycles=often * run.cycles,
            compute_cycles=often * self._compute_cycles(run),
            busy_cycles=often * run.busy_cycles,
            launch_us=often * energy.launch_us,
            time_us=time_us,
            energy_j=energy_j,
            power_w=average_power_w(energy_j, time_us),
            bound=bound_of(run.busy_cycles, run.stall_cycles, energy.launch_us * run.clock_mhz),
            stall_cycles={name: often * run.stall_cycles[name] for name in STALL_NAMES},
            energy_by_unit_j={unit: often * joules for unit, joules in energy.by_unit_j.items()},
            counters=counters,
        )

    def _compute_cycles(self, run: KernelRun) -> float:
        """Cycles on a memory that answers at once, which no clock changes."""
        key = id(run.plan)
        if key not in self._compute:
            self._compute[key] = compute_cycles(self.spec, run, self.options)
        return self._compute[key]
