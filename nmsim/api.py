"""The public verbs: load a machine and a trace, simulate a step or one GEMM, measure an instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmsim.arch.load import load_arch
from nmsim.arch.machine import Machine, as_gpu
from nmsim.arch.spec import GpuSpec, TileSpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.result.rows import SimulationResult
from nmsim.result.timeline import KernelTimeline
from nmsim.result.whole_run import RunTotal, first_steps, run_totals
from nmsim.run.choice import IN_ORDER, RunOptions, only_kernel
from nmsim.run.kernel import ENGINES
from nmsim.run.memory_bench import ChaseTiming, StreamTiming
from nmsim.run.memory_bench import microbench_chase as _chase
from nmsim.run.memory_bench import microbench_stream as _stream
from nmsim.run.microbench import MmaTiming, microbench_mma
from nmsim.run.schemes import SCHEMES
from nmsim.run.single import GemmResult, check_dimensions, simulate_single, single_kernel, what_if_gemm
from nmsim.run.step import Progress
from nmsim.run.systolic import simulate_systolic
from nmsim.run.systolic_trace import simulate_array_trace
from nmsim.run.tile_wise import TileWiseShape, simulate_tile_wise
from nmsim.run.timeline import TimelineWindow, kernel_timeline
from nmsim.run.timeline import trace_timelines as record_trace
from nmsim.run.trace import simulate_trace
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import Gemm
from nmsim.workload.history import read_history, running_accuracy, steps_to_accuracy
from nmsim.workload.repattern import with_dtype, with_pattern
from nmsim.workload.rescale import rescale_batch
from nmsim.workload.store import SUFFIX, write_trace
from nmsim.workload.store import read_trace as load_trace
from nmsim.workload.trace import Trace

__all__ = [
    "TileWiseShape",
    "TimelineWindow",
    "gemm_timeline",
    "load_arch",
    "load_trace",
    "microbench",
    "simulate",
    "simulate_gemm",
    "simulate_run",
    "trace_timelines",
    "write_trace",
]

L2_STATES = ("cold", "warm")
"""What a kernel may find in the L2 by itself; in a step, also what those before it left (IN_ORDER)."""


def simulate(
    arch: Machine | str | Path,
    trace: Trace | str | Path,
    *,
    baseline: Sequence[str] = SCHEMES,
    pattern: str | None = None,
    dtype: str | None = None,
    batch: int | None = None,
    l2: str = "cold",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> SimulationResult:
    """Simulate a recorded training step on a machine, for the traced recipe and each baseline.

    `pattern`, `dtype` and `batch` replace the recorded ones (the result says so); `l2` is `cold` or `warm` per kernel, or `step`:
    each product finds what those before it left. A systolic array has no L2 and no engines to choose from, and runs no tiles.
    InputError for anything wrong with the inputs.
    """
    spec = _spec(arch, overrides)
    return _simulated(spec, changed_step(trace, pattern, dtype, batch), baseline, l2, engine, progress)


def _simulated(
    spec: Machine, step: Trace, baseline: Sequence[str], l2: str, engine: str | None, progress: Progress | None
) -> SimulationResult:
    options = run_options(l2, engine, (*L2_STATES, IN_ORDER))
    if isinstance(spec, SystolicSpec):
        return simulate_array_trace(spec, step, schemes=baseline, progress=progress)
    return simulate_trace(spec, step, schemes=baseline, options=options, progress=progress)


def simulate_run(
    arch: Machine | str | Path,
    trace: str | Path,
    *,
    result: SimulationResult | None = None,
    baseline: Sequence[str] = SCHEMES,
    batch: int | None = None,
    dtype: str | None = None,
    l2: str = "cold",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    until_accuracy: float | None = None,
    progress: Progress | None = None,
) -> dict[str, RunTotal]:
    """Time and energy of the whole run that the schedule of a trace in a folder describes, by scheme.

    The steps of other stages are read from the traces beside it. Nothing where the trace has no schedule or one of them is away.
    `result` is what `simulate` gave for `trace` with the same arguments, if it was called. `until_accuracy` ends the run where the
    running accuracy on its own batches (of its history) gets there, so that runs are compared at equal accuracy. InputError as
    `simulate`, and where the run never gets there.
    """
    spec = _spec(arch, overrides)
    path = Path(trace)
    recorded = load_trace(path)
    schedule = recorded.schedule if until_accuracy is None else _schedule_until(recorded, path, until_accuracy)
    named = dict.fromkeys(entry["trace"] for entry in schedule)
    own = f"{recorded.name}{SUFFIX}"
    stages = {name: path if name == own else path.with_name(name) for name in named}
    if not stages or not all(folder.is_dir() for folder in stages.values()):
        return {}
    results = {} if result is None else {own: result}
    for name, folder in stages.items():
        if name not in results:
            step = changed_step(folder, None, dtype, batch)
            results[name] = _simulated(spec, step, baseline, l2, engine, progress)
    return run_totals(schedule, results)


def _schedule_until(recorded: Trace, path: Path, accuracy: float) -> Sequence[Mapping[str, Any]]:
    """The steps of a run up to the one at which its running accuracy reaches `accuracy`."""
    history = read_history(path)
    steps = None if history is None else steps_to_accuracy(history, accuracy)
    if history is None or steps is None:
        best = "it has no history" if history is None else f"its best is {max(running_accuracy(history), default=0.0):.4f}"
        raise InputError(f"the run never reached this accuracy: {best}", file=path, path="until_accuracy", value=accuracy)
    return first_steps(recorded.schedule, steps)


def trace_timelines(
    arch: Machine | str | Path,
    trace: Trace | str | Path,
    result: SimulationResult,
    *,
    gemm_ids: Sequence[str] = (),
    window: TimelineWindow | None = None,
    pattern: str | None = None,
    dtype: str | None = None,
    batch: int | None = None,
    l2: str = "cold",
    engine: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[KernelTimeline, ...]:
    """What the SMs, L2 and DRAM did during single GEMMs of a step that `simulate` gave `result` for (the longest without ids).

    All else as it was given to `simulate`; write them with `nmsim.report.timeline.write_timeline`.
    """
    spec = as_gpu(_spec(arch, overrides), "timeline")
    if l2 == IN_ORDER:
        raise InputError("a timeline is of one kernel, by itself", path="--l2", value=l2, fix=f"use one of {', '.join(L2_STATES)}")
    step = changed_step(trace, pattern, dtype, batch)
    return record_trace(spec, step, result, gemm_ids, run_options(l2, engine), window or TimelineWindow())


def simulate_gemm(
    arch: Machine | str | Path,
    *,
    m: int,
    n: int,
    k: int,
    l: int = 1,  # noqa: E741 - the field's name for the batch
    dtype: str = "fp16",
    out_dtype: str = "fp16",
    pattern: str | None = None,
    sparse_operand: str = "b",
    l2: str = "cold",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    tile_wise: TileWiseShape | None = None,
    kernel: TileSpec | None = None,
) -> GemmResult:
    """One what-if GEMM D[m, n] = A[m, k] B[k, n] (`l` of them), both operands K-contiguous, dense, N:M sparse or tile-wise.

    Any kind of machine; a systolic one has neither L2 nor engines to choose from, and compresses B only. `tile_wise` says what B
    keeps of its columns and rows (GPUs only); with a `pattern` too, each tile is compressed besides. The fastest kernel of the
    machine's library runs, or `kernel` where it is given (K then counts bytes, as in `kernels.tiles`).
    """
    spec = _spec(arch, overrides)
    gemm, parsed = _gemm(spec, m, n, k, l, dtype, out_dtype, pattern, sparse_operand)
    options = run_options(l2, engine)
    if not isinstance(spec, GpuSpec):
        if options.warm:
            raise InputError(f"{spec.name} is of kind {spec.kind} and has no L2 to be warm", path="--l2", fix="leave it out")
        if tile_wise is not None:
            raise InputError(f"{spec.name} is of kind {spec.kind}: gathered tiles are modelled on GPUs", path="--tile-wise")
        if kernel is not None:
            raise InputError(f"{spec.name} is of kind {spec.kind} and runs no kernels", path="--cta", fix="leave it out")
        return simulate_systolic(spec, gemm, parsed, sparse_operand)
    offered = spec if kernel is None else only_kernel(spec, kernel)
    if tile_wise is not None:
        return simulate_tile_wise(offered, gemm, tile_wise, parsed, options)
    return simulate_single(offered, gemm, parsed, sparse_operand, options)


def gemm_timeline(
    arch: Machine | str | Path,
    *,
    m: int,
    n: int,
    k: int,
    l: int = 1,  # noqa: E741 - the field's name for the batch
    dtype: str = "fp16",
    out_dtype: str = "fp16",
    pattern: str | None = None,
    sparse_operand: str = "b",
    l2: str = "cold",
    engine: str | None = None,
    overrides: Sequence[str] = (),
    kernel: TileSpec | None = None,
    window: TimelineWindow | None = None,
) -> KernelTimeline:
    """What the SMs, L2 and DRAM did during the GEMM that `simulate_gemm` times; write it with `nmsim.report.timeline`."""
    spec = as_gpu(_spec(arch, overrides), "timeline")
    spec = spec if kernel is None else only_kernel(spec, kernel)
    gemm, parsed = _gemm(spec, m, n, k, l, dtype, out_dtype, pattern, sparse_operand)
    options = run_options(l2, engine)
    run = single_kernel(spec, gemm, parsed, sparse_operand, options)
    facts = {"shape": f"{m} x {n} x {k}" + (f" x {l}" if l > 1 else ""), "dtype": dtype, "asked_pattern": pattern or "dense"}
    return kernel_timeline(spec, run, options, window or TimelineWindow(), "gemm", facts)


def _gemm(
    spec: Machine,
    m: int,
    n: int,
    k: int,
    l: int,  # noqa: E741
    dtype: str,
    out_dtype: str,
    pattern: str | None,
    sparse_operand: str,
) -> tuple[Gemm, NMPattern | None]:
    """The GEMM asked for and its pattern (None for dense), checked against the machine's element types."""
    check_dimensions(m=m, n=n, k=k, l=l)
    if sparse_operand not in ("a", "b"):
        raise InputError("names the compressed operand, a or b", path="--sparse-operand", value=sparse_operand)
    known = sorted({mma.dtype for mma in spec.tensor_core.mma} if isinstance(spec, GpuSpec) else spec.energy.mac_pj)
    for option, value in (("--dtype", dtype), ("--out-dtype", out_dtype)):
        refused = {"int4", "tf32"} if option == "--out-dtype" else set()
        if value not in {*known, "fp32", "int32"} - refused:
            fix = f"use one of {', '.join(name for name in known if name not in refused)}"
            raise InputError(f"{spec.name} has no such element type", path=option, value=value, fix=fix)
    parsed = None if pattern is None or pattern == "dense" else NMPattern.parse(pattern)
    return what_if_gemm(m, n, k, l, dtype, out_dtype), parsed


def microbench(
    arch: Machine | str | Path,
    *,
    shape: tuple[int, int, int],
    dtype: str = "fp16",
    pattern: str = "dense",
    acc: str | None = None,
    warps: int = 8,
    ilp: int = 2,
) -> MmaTiming:
    """Latency and throughput of one matrix instruction, operands in registers; `acc` is the accumulators' type (FP32 or INT32 if None)."""
    return microbench_mma(as_gpu(_spec(arch, ()), "microbench"), shape, dtype, pattern=pattern, acc=acc, warps=warps, ilp=ilp)


def microbench_chase(arch: Machine | str | Path, *, working_set_bytes: int) -> ChaseTiming:
    """Mean latency of a dependent load, in core cycles: one thread follows pointers in random order over a buffer."""
    return _chase(as_gpu(_spec(arch, ()), "microbench_chase"), working_set_bytes)


def microbench_stream(arch: Machine | str | Path, *, working_set_bytes: int, engine: str | None = None) -> StreamTiming:
    """Bandwidth of all SMs reading a buffer again and again, past the L1, in GB/s and bytes per core cycle."""
    return _stream(as_gpu(_spec(arch, ()), "microbench_stream"), working_set_bytes, engine=engine or default_engine())


def default_engine() -> str:
    """`compiled` where numba is installed, else `simpy`: the same answers, slower."""
    from nmsim.rules.jit import NUMBA

    return "compiled" if NUMBA else "simpy"


def changed_step(trace: Trace | str | Path, pattern: str | None, dtype: str | None, batch: int | None) -> Trace:
    """The trace with what replaces the recorded batch, pattern and element type."""
    step = trace if isinstance(trace, Trace) else load_trace(trace)
    if batch is not None:
        step = rescale_batch(step, batch)
    if pattern is not None:
        step = with_pattern(step, NMPattern.parse(pattern))
    if dtype is not None:
        step = with_dtype(step, dtype)
    return step


def run_options(l2: str, engine: str | None, states: Sequence[str] = L2_STATES) -> RunOptions:
    """Options of a run; InputError for an L2 state that is none of `states` or an engine that does not exist."""
    if l2 not in states:
        raise InputError("no such L2 state here", path="--l2", value=l2, fix=f"use one of {', '.join(states)}")
    chosen = engine or default_engine()
    if chosen not in ENGINES:
        raise InputError("no such engine", path="--engine", value=engine, fix=f"use one of {', '.join(ENGINES)}")
    return RunOptions(engine=chosen, l2=l2)


def _spec(arch: Machine | str | Path, overrides: Sequence[str]) -> Machine:
    if isinstance(arch, GpuSpec | SystolicSpec):
        if overrides:
            raise InputError("overrides need the machine's file", value=list(overrides), fix="pass the path of the YAML")
        return arch
    return load_arch(arch, overrides)
