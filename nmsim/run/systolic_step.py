"""A whole training step on a systolic array: every GEMM as folds, every operator and pass as a stream through DRAM.

The same rules as on a GPU decide what runs sparse: an operand's recorded mask along the reduction of each GEMM. The array
compresses its filter B, so that a sparse A runs as the transposed product. A convolution runs lowered by im2col: one
product a group, or one a residue of the stride in backward_data. Compressed, each filter tap is padded to whole groups.

Modelled: GEMMs one after another, each from and to DRAM; operators and passes at the rate of DRAM or of the engines beside the array,
whichever is slower. Not modelled: reuse of data between GEMMs; fetching a pixel once for all taps (im2col's operand is fetched as it
is streamed, which the input buffer keeps where it fits); energy of the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from nmsim.arch.systolic import SystolicSpec
from nmsim.hw.counters import Counters
from nmsim.mapping.taps import residues
from nmsim.result.rows import Ceilings, KernelRow
from nmsim.rules.stalls import STALL_NAMES, Stall
from nmsim.run.bound import bound_of
from nmsim.run.systolic import SystolicRun, array_energy_by_unit_j, native_on_array, run_systolic
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import element_bits
from nmsim.workload.gemm import Gemm, Operand
from nmsim.workload.legality import is_attention_product, usable_structure
from nmsim.workload.trace import Operator, SparsifyPass, Trace

SYSTOLIC_SCHEMES = ("traced", "dense")
"""Gathered tiles are modelled on GPUs only."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Done:
    """What one GEMM, operator or pass took: totals of one launch."""

    name: str
    cycles: float
    compute_cycles: float
    busy_cycles: float
    stall_cycles: dict[str, float]
    counters: Counters
    tile: str
    folds: int


class SystolicSimulator:
    """Runs the distinct products of traces on one array, each once."""

    def __init__(self, spec: SystolicSpec) -> None:
        self.spec = spec
        self._products: dict[Hashable, SystolicRun] = {}

    def scheme_rows(self, trace: Trace, scheme: str, progress: Progress) -> list[KernelRow]:
        """All rows of a step under one of SYSTOLIC_SCHEMES."""
        rows = []
        for index, gemm in enumerate(trace.gemms):
            progress(index, len(trace.gemms), f"{scheme} {gemm.id}")
            rows.append(self._gemm_row(trace, gemm, scheme))
        for one in trace.operators:
            reason = f"{one.phase} {one.name}: no GEMM"
            done = self._stream(one.name, one.bytes_read, one.bytes_written, flops=one.flops)
            rows.append(self._row(done, scheme, one, "operator", "other", one.count, 1, reason, trace.dtype))
        for one_pass in trace.passes if scheme == "traced" else ():
            reason = f"{one_pass.kind} pass of the recipe, every {one_pass.every_steps} step(s)"
            ranked = one_pass.bytes_read * 8 // element_bits(trace.dtype)
            done = self._stream(one_pass.kind, one_pass.bytes_read, one_pass.bytes_written, ranked=ranked)
            rows.append(self._row(done, scheme, one_pass, "pass", "sparsify", 1, one_pass.every_steps, reason, trace.dtype))
        return rows

    def _gemm_row(self, trace: Trace, gemm: Gemm, scheme: str) -> KernelRow:
        side, pattern, reason = ("b", None, "dense baseline") if scheme == "dense" else self._sparse(trace, gemm)
        done = self._product(gemm, side, pattern)
        native = "dense" if pattern is None else str(pattern)
        return self._row(done, scheme, gemm, "gemm", gemm.phase, gemm.repeat, 1, reason, gemm.dtype, native)

    def _sparse(self, trace: Trace, gemm: Gemm) -> tuple[str, NMPattern | None, str]:
        """(operand that is compressed, its pattern on this array or None, why)."""
        refused = []
        usable: list[tuple[NMPattern, str, str]] = []
        for side, operand in (("a", gemm.a), ("b", gemm.b)):
            verdict = usable_structure(gemm, operand, trace)
            if not verdict.ok or verdict.pattern is None:
                if operand.structure != "dense":
                    refused.append(verdict.reason)
                continue
            length, _ = _reduction(gemm, operand)
            native = native_on_array(self.spec, verdict.pattern, length)
            if native.pattern is None:
                refused.append(native.reason)
            else:
                usable.append((native.pattern, side, "; ".join(filter(None, (verdict.reason, native.reason)))))
        if usable:
            pattern, side, reason = min(usable, key=lambda found: found[0].density)
            return side, pattern, reason
        if refused:
            return "b", None, "; ".join(refused)
        if is_attention_product(gemm):
            return "b", None, "attention product: neither operand is a weight"
        weightless = gemm.phase == "backward_weight"
        return "b", None, "no operand is sparse: backward_weight has no weight in it" if weightless else "this layer was not pruned"

    def _product(self, gemm: Gemm, side: str, pattern: NMPattern | None) -> _Done:
        """The GEMM as one or, for a strided backward_data, several products on the array, one after another."""
        parts = [self._run(part, pattern) for part in as_products(gemm, side, pattern)]
        total = Counters()
        for run in parts:
            total = total + run.counters
        return _Done(
            name=parts[0].plan.name,
            cycles=sum(run.cycles for run in parts),
            compute_cycles=sum(self._run(part, pattern, ideal=True).cycles for part in as_products(gemm, side, pattern)),
            busy_cycles=sum(run.busy_cycles for run in parts),
            stall_cycles={name: sum(run.stall_cycles[name] for run in parts) for name in STALL_NAMES},
            counters=replace(total, dense_equivalent_macs=gemm.macs),
            tile="x".join(map(str, parts[0].plan.fold_tile)),
            folds=sum(len(run.plan.folds) for run in parts),
        )

    def _run(self, part: Gemm, pattern: NMPattern | None, *, ideal: bool = False) -> SystolicRun:
        key = (part.m, part.n, part.k, part.l, part.dtype, part.out_dtype, pattern, ideal)
        if key not in self._products:
            self._products[key] = run_systolic(self.spec, part, pattern, ideal_memory=ideal)
        return self._products[key]

    def _stream(self, name: str, bytes_read: int, bytes_written: int, *, flops: int = 0, ranked: int = 0) -> _Done:
        """A pass through DRAM: its bytes at the DRAM's rate, or its elements at an engine's, whichever is slower."""
        spec, engines = self.spec, self.spec.engines
        cycles_per_byte = spec.clock_mhz / (spec.dram.bandwidth_gb_per_s * 1000)
        moving = (bytes_read + bytes_written) * cycles_per_byte
        engine = 0.0
        if engines is not None:
            engine = max(flops / engines.vector_flops_per_cycle, ranked / engines.top_n_elements_per_cycle)
        latency = spec.dram.latency_ns * spec.clock_mhz / 1000
        stalls = dict.fromkeys(STALL_NAMES, 0.0)
        stalls[Stall.DRAM_ROW.name.lower()] = latency
        stalls[Stall.DRAM_BUS.name.lower()] = max(0.0, moving - engine)
        counters = Counters(dram_read_bytes=bytes_read, dram_write_bytes=bytes_written, cuda_core_flops=flops)
        total = latency + max(moving, engine)
        return _Done(name, total, engine, engine, stalls, counters, "0x0x0", 0)

    def _row(
        self,
        done: _Done,
        scheme: str,
        one: Gemm | Operator | SparsifyPass,
        kind: str,
        phase: str,
        launches: int,
        steps_between: int,
        reason: str,
        dtype: str,
        native: str = "none",
    ) -> KernelRow:
        """Totals over the launches of a step; a pass that runs every few steps counts with its share."""
        often = launches / steps_between
        time_us = done.cycles / self.spec.clock_mhz
        by_unit = array_energy_by_unit_j(self.spec, done.counters, dtype, time_us)
        energy_j = sum(by_unit.values())
        m, n, k, batch = (one.m, one.n, one.k, one.l) if isinstance(one, Gemm) else (0, 0, 0, 0)
        return KernelRow(
            gemm_id=one.id,
            module=one.name if isinstance(one, Operator) else one.module,
            kind=kind,
            phase=phase,
            scheme=scheme,
            m=m,
            n=n,
            k=k,
            l=batch,
            launches=launches,
            ran_sparse=native not in ("none", "dense"),
            reason=reason,
            kernel=done.name,
            native_pattern=native,
            cta_tile=done.tile,
            waves=float(done.folds),
            split_k=1,
            clock_mhz=self.spec.clock_mhz,
            cycles=often * done.cycles,
            compute_cycles=often * done.compute_cycles,
            busy_cycles=often * done.busy_cycles,
            launch_us=0.0,
            time_us=often * time_us,
            energy_j=often * energy_j,
            power_w=energy_j / time_us * 1e6 if time_us else 0.0,
            bound=bound_of(done.busy_cycles, done.stall_cycles),
            stall_cycles={name: often * value for name, value in done.stall_cycles.items()},
            energy_by_unit_j={unit: often * joules for unit, joules in by_unit.items()},
            counters={name: round(value * often) for name, value in vars(done.counters).items()},
        )


def as_products(gemm: Gemm, side: str, pattern: NMPattern | None) -> Sequence[Gemm]:
    """`gemm` as plain products with the operand `side` as B, im2col done; a compressed tap is padded to whole groups."""
    parts = list(_plain(gemm))
    if pattern is not None and gemm.conv is not None:
        operand = gemm.a if side == "a" else gemm.b
        length, _ = _reduction(gemm, operand)
        padded = -(-length // pattern.m) * pattern.m
        parts = [replace(part, k=part.k // length * padded) for part in parts]
    if side == "a":
        parts = [replace(part, m=part.n, n=part.m) for part in parts]
    return parts


def _plain(gemm: Gemm) -> Iterator[Gemm]:
    conv = gemm.conv
    if conv is None or gemm.phase != "backward_data":
        yield replace(gemm, conv=None)
        return
    channels = conv.out_channels // conv.groups
    for residue in residues(conv):
        pixels = conv.batch * residue.rows * residue.columns
        k = residue.taps_h * residue.taps_w * channels
        yield replace(gemm, conv=None, m=pixels, n=conv.in_channels // conv.groups, k=k, l=conv.groups)


def _reduction(gemm: Gemm, operand: Operand) -> tuple[int, int]:
    """(length that groups must fit in, how many such): one filter tap of a convolution's weight at a time."""
    if gemm.conv is None or operand.role != "weight":
        return gemm.k, 1
    taps = gemm.conv.kernel_h * gemm.conv.kernel_w
    return gemm.k // taps, taps


def array_ceilings(spec: SystolicSpec, trace: Trace) -> Ceilings:
    """Rooflines of the array; there is no L2, so that its line is DRAM's."""
    dense = 2 * spec.peak_macs_per_cycle * spec.clock_mhz / 1e6
    patterns = {operand.pattern for gemm in trace.gemms for operand in (gemm.a, gemm.b) if operand.pattern is not None}
    held = spec.array.nm.held()
    rates = {str(pattern): dense / float(pattern.density) for pattern in sorted(patterns, key=str) if held is None or pattern in held}
    bandwidth = spec.dram.bandwidth_gb_per_s
    return Ceilings(clock_mhz=spec.clock_mhz, dense_tflops=dense, nm_tflops=rates, l2_gb_per_s=bandwidth, dram_gb_per_s=bandwidth)
