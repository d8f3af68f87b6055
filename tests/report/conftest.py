"""A result like those of a real run: twenty layers of a transformer, three schemes, operators, passes and awkward names."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nmsim.arch.spec import EnergySpec, PowerSpec
from nmsim.energy.model import average_power_w, energy_by_unit_j, total_energy_j
from nmsim.hw.counters import Counters
from nmsim.result.folders import place_file, place_folder
from nmsim.result.frames import key_of
from nmsim.result.points import (
    POINT,
    SWEEP,
    Coordinates,
    Sweep,
    failed_records,
    point_file,
    point_key,
    result_records,
    sweep_file,
)
from nmsim.result.rows import Ceilings, KernelRow, SimulationResult
from nmsim.result.store import run_files
from nmsim.result.totals import phase_totals, scheme_totals
from nmsim.rules.stalls import STALL_NAMES

MakeResult = Callable[..., SimulationResult]

CLOCK_MHZ = 1410
MACS_PER_CYCLE = 108 * 4 * 256
DRAM_BYTES_PER_CYCLE = 1935e3 / CLOCK_MHZ
ENERGY = EnergySpec(
    mac_pj={"fp16": 1.3},
    cuda_core_flop_pj=3.0,
    metadata_code_pj=0.1,
    shared_memory_pj_per_byte=3.5,
    l2_pj_per_byte=12.0,
    dram_pj_per_byte=56.0,
    dram_activate_pj=909.0,
)
POWER = PowerSpec(board_limit_w=300.0, static_w=80.0)
SHAPES = {"attention.self.query": (1024, 1024), "attention.output.dense": (1024, 1024), "intermediate.dense": (1024, 4096)}
AWKWARD_NAMES = ("head.<b>bold</b> & \"quoted\" <script>alert('x')</script>", "head.$cost_{a}^2$.x--><y", "head.注意.proj")
STALL_WEIGHTS = {
    "metadata": 0.6,
    "shared_memory": 2.0,
    "register_file": 0.3,
    "selector": 0.1,
    "math_latency": 1.2,
    "noc_queue": 0.8,
    "l2_queue": 1.0,
    "l2_latency": 0.7,
    "dram_queue": 1.6,
    "dram_row": 0.5,
    "dram_bus": 1.4,
    "cta_launch": 0.2,
    "fill_drain": 0.9,
    "split_k_wait": 0.1,
    "epilogue": 1.1,
    "imbalance": 2.2,
}
TIME_OF_SCHEME = {"dense": 1.0, "traced": 0.58, "tile_wise": 0.66}


def layer_shapes(layers: int) -> list[tuple[str, int, int]]:
    """`layers` named linear layers (inputs, outputs), the last ones with markup in their names."""
    encoder = [
        (f"bert.encoder.layer.{block}.{name}", *sizes) for block in range(-(-layers // len(SHAPES))) for name, sizes in SHAPES.items()
    ]
    awkward = [(name, 1024, outputs) for name, outputs in zip(AWKWARD_NAMES, (30, 2, 10), strict=True)]
    return [*encoder[: max(layers - len(awkward), 1)], *awkward][:layers]


def gemm_row(module: str, phase: str, scheme: str, inputs: int, outputs: int) -> KernelRow:
    """One GEMM of 4096 tokens; forward and backward_data of wide layers run 2:4 when traced."""
    rng = random.Random(f"{module}/{phase}")
    tokens = 4096
    m, n, k = {
        "forward": (tokens, outputs, inputs),
        "backward_data": (tokens, inputs, outputs),
        "backward_weight": (outputs, inputs, tokens),
    }[phase]
    usable = phase != "backward_weight" and outputs >= 64
    ran_sparse = usable and scheme == "traced"
    if scheme == "dense":
        reason = "the dense baseline"
    elif scheme != "traced":
        reason = "75 % of columns and 67 % of rows kept" if usable else "no weight operand: runs dense"
    elif ran_sparse:
        reason = "2:4 groups of the weight run along the reduction: 0 of 262144 violate"
    else:
        reason = (
            "no operand is sparse along the tokens: dY and X were recorded dense" if outputs >= 64 else "k too short: 2:4 saves nothing"
        )
    macs = m * n * k
    share = TIME_OF_SCHEME.get(scheme, 0.5) if usable else 1.0
    executed = int(macs * (0.5 if usable and scheme != "dense" else 1))
    compute = executed / MACS_PER_CYCLE
    dram_bytes = int(2 * (m * k + n * k * share + m * n))
    ideal = max(macs * share / MACS_PER_CYCLE, dram_bytes / DRAM_BYTES_PER_CYCLE)
    cycles = ideal * rng.uniform(1.15, 1.35) + 2500
    counters = Counters(
        executed_macs=executed,
        dense_equivalent_macs=macs,
        metadata_codes=n * k // 2 if ran_sparse else 0,
        shared_memory_bytes=int(macs / 24),
        l2_read_bytes=int(dram_bytes * rng.uniform(2.5, 5)),
        l2_write_bytes=2 * m * n,
        dram_read_bytes=dram_bytes - 2 * m * n,
        dram_write_bytes=2 * m * n,
        dram_activates=dram_bytes // 1024,
    )
    name = "dense" if scheme == "dense" or not usable else "nm" if ran_sparse else "tile_wise"
    tile = "128x128x64" if outputs >= 64 else "64x64x64"
    bound = "tensor" if compute > 0.6 * cycles else rng.choice(["shared_memory", "dram", "l2", "imbalance", "latency"])
    return finish(
        rng, counters, f"{module}/{phase}", module, "gemm", phase, scheme, (m, n, k), ran_sparse, reason, name, tile, cycles, compute, bound
    )


def stream_row(name: str, module: str, kind: str, phase: str, scheme: str, nbytes: int, launches: int) -> KernelRow:
    """A memory-bound operator or pass."""
    rng = random.Random(name)
    cycles = nbytes * launches / DRAM_BYTES_PER_CYCLE * rng.uniform(1.1, 1.3)
    total = nbytes * launches
    counters = Counters(cuda_core_flops=total, l2_read_bytes=total, dram_read_bytes=total // 2, dram_write_bytes=total // 2)
    reason = "memory-bound"
    return finish(
        rng, counters, name, module, kind, phase, scheme, (0, 0, 0), False, reason, "stream", "", cycles, cycles / 2, "dram", launches
    )


def finish(
    rng: random.Random,
    counters: Counters,
    gemm_id: str,
    module: str,
    kind: str,
    phase: str,
    scheme: str,
    mnk: tuple[int, int, int],
    ran_sparse: bool,
    reason: str,
    kernel: str,
    cta_tile: str,
    cycles: float,
    compute: float,
    bound: str,
    launches: int = 1,
) -> KernelRow:
    """Split the waiting over the stalls and charge the energy."""
    busy = min(compute, 0.93 * cycles)
    weights = {name: STALL_WEIGHTS[name] * rng.uniform(0.2, 1.8) for name in STALL_NAMES}
    weights["metadata"] *= ran_sparse
    stalls = {name: (cycles - busy) * weight / sum(weights.values()) for name, weight in weights.items()}
    launch_us = launches * (4.1 if ran_sparse else 2.5)
    time_us = cycles / CLOCK_MHZ + launch_us
    by_unit_j = energy_by_unit_j(counters, ENERGY, POWER, "fp16", time_us)
    energy_j = total_energy_j(by_unit_j)
    return KernelRow(
        gemm_id=gemm_id,
        module=module,
        kind=kind,
        phase=phase,
        scheme=scheme,
        m=mnk[0],
        n=mnk[1],
        k=mnk[2],
        l=1,
        launches=launches,
        ran_sparse=ran_sparse,
        reason=reason,
        kernel=kernel,
        native_pattern="2:4" if ran_sparse else "dense",
        cta_tile=cta_tile,
        waves=mnk[0] * mnk[1] / 128 / 128 / 108,
        split_k=1,
        clock_mhz=CLOCK_MHZ,
        cycles=cycles,
        compute_cycles=compute,
        busy_cycles=busy,
        launch_us=launch_us,
        time_us=time_us,
        energy_j=energy_j,
        power_w=average_power_w(energy_j, time_us),
        bound=bound,
        stall_cycles=stalls,
        energy_by_unit_j=by_unit_j,
        counters=vars(counters) | {},
    )


def build_result(
    layers: int = 20,
    schemes: Sequence[str] = ("traced", "dense", "tile_wise"),
    arch: str = "Ampere-like, 80 GB <PCIe>",
    trace: str = "bert-large & <i>friends</i>",
    seed: int = 7,
) -> SimulationResult:
    """A whole step of `layers` linear layers under each scheme."""
    rows: list[KernelRow] = []
    for scheme in schemes:
        rows += [
            gemm_row(module, phase, scheme, inputs, outputs)
            for module, inputs, outputs in layer_shapes(layers)
            for phase in ("forward", "backward_data", "backward_weight")
        ]
        for name, nbytes, launches in (
            ("layer_norm", 25_000_000, 14),
            ("gelu", 50_000_000, 7),
            ("softmax", 34_000_000, 7),
            ("adam", 700_000_000, 1),
        ):
            rows.append(stream_row(name, name, "operator", "other", scheme, nbytes, launches))
        if scheme == "traced":
            for name, nbytes in (("mask_search", 60_000_000), ("compress", 90_000_000), ("transpose", 40_000_000)):
                rows.append(stream_row(name, "bert.encoder", "pass", "sparsify", scheme, nbytes, 1))
    done = tuple(rows)
    return SimulationResult(
        arch=arch,
        arch_key="3f" * 32,
        trace=trace,
        trace_key=f"{seed:02x}" * 32,
        model_version="12",
        engine="compiled",
        options={"l2": "cold", "dtype": "fp16", "batch": None},
        provenance={
            "kind": "trained",
            "model": "bert-large",
            "dataset": "sst-2 <train>",
            "recipe": "sr-ste",
            "hyper_parameters": {"learning_rate": 2e-5, "lambda_w": 2e-4},
            "seed": 1,
            "step": 400,
            "loss": 0.213,
            "accuracy": 0.9174,
            "versions": {"torch": "2.13.0", "nmsim": "0.1.0"},
            "command": "nmsim train bert-large --data sst-2 --recipe sr-ste --pattern 2:4 --trace bert.nmtrace",
            "notes": ["masks were transposable from step 0 <on>"],
        },
        ceilings=Ceilings(CLOCK_MHZ, 312.0, {"2:4": 624.0}, 5120.0, 1935.0, 108 * 128 * CLOCK_MHZ / 1000),
        rows=done,
        phases=phase_totals(done),
        total=scheme_totals(done),
        notes=(
            "backward_weight stays dense in 20 of 20 layers: SR-STE sparsifies the weight only, and no weight enters that product.",
            "head.<b>bold</b> is slower than dense (0.94x): its forward takes 9 us, of which 4.1 us are the launch.",
        ),
        sources={
            "sm.*": "datasheet: whitepaper <i>table</i> 4",
            "sm.count": "set by --set sm.count=108",
            "sm.registers": "datasheet: whitepaper <i>table</i> 4",
            "dram.timing.refresh_ns": "assumption: as HBM2",
        },
    )


PATTERNS = {"2:4": 0.55, "1:4": 0.35, "1:8": 0.28}
"""Time of the products that run sparse, against dense, on the machine as it is."""
FACTORS = {"dram.bandwidth_gb_per_s=4078": {"1:8": 0.8, "1:4": 0.9}, "shared_memory.banks=64": {"1:8": 0.7, "1:4": 0.8, "2:4": 0.9}}
"""What an override makes of that time."""
RECIPES = {"sr-ste": 0.917, "asp": 0.905, "bdwp": 0.911}


def faster(result: SimulationResult, factor: float, pattern: str) -> SimulationResult:
    """The same step, its sparse products taking `factor` of the time they take in `result`."""

    def change(row: KernelRow) -> KernelRow:
        if not row.ran_sparse:
            return row
        scaled = {name: factor * cycles for name, cycles in row.stall_cycles.items()}
        times = {name: factor * getattr(row, name) for name in ("cycles", "busy_cycles", "compute_cycles", "launch_us", "time_us")}
        return replace(row, stall_cycles=scaled, native_pattern=pattern, **times)

    rows = tuple(map(change, result.rows))
    return replace(result, rows=rows, phases=phase_totals(rows), total=scheme_totals(rows))


def build_sweep(folder: Path, recipes: Sequence[str] = ("sr-ste",), overrides: Sequence[str] = tuple(FACTORS), layers: int = 2) -> Path:
    """A sweep of PATTERNS x recipes x every combination of `overrides` (set or not), one point of it failed."""
    base = build_result(layers)
    native = sum(row.time_us for row in base.rows if row.scheme == "traced" and row.ran_sparse)
    dense = {row.gemm_id: row.time_us for row in base.rows if row.scheme == "dense"}
    sparse_dense_us = sum(dense[row.gemm_id] for row in base.rows if row.scheme == "traced" and row.ran_sparse)
    points = []
    for recipe, pattern in itertools.product(recipes, PATTERNS):
        for chosen in itertools.product(*[(False, True) for _ in overrides]):
            sets = [one for one, taken in zip(overrides, chosen, strict=True) if taken]
            words = " ".join(one if one in sets else f"{one.split('=')[0]}=1" for one in overrides)
            factor = PATTERNS[pattern] * math.prod(FACTORS[one].get(pattern, 1.0) for one in sets)
            result = faster(base, factor * sparse_dense_us / native, pattern)
            trained = pattern == "2:4"
            provenance = {**base.provenance, "recipe": recipe, "accuracy": RECIPES[recipe], "kind": "trained" if trained else "initialised"}
            result = replace(
                result, trace=f"bert_{recipe}", provenance=provenance, options={**base.options, "set": words, "pattern": pattern}
            )
            place = Coordinates("flex <b>", words, "bert & co", recipe, result.trace, pattern, 32, "fp16", "cold", "compiled")
            key = point_key(place, key_of(result))
            records = result_records(key, key_of(result), place, result)
            place_folder(folder, key, {POINT: point_file(records), **run_files(result)})
            points.append((key, place))
    broken = replace(place, pattern="1:16")
    key = point_key(broken, "")
    place_folder(folder, key, {POINT: point_file(failed_records(key, broken, "input", "no such <i>pattern</i>, got '1:16'"))})
    place_file(folder / SWEEP, sweep_file(Sweep((*points, (key, broken)))))
    return folder


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two overrides and three recipes."""
    return build_sweep(tmp_path_factory.mktemp("sweep"), tuple(RECIPES))


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """`build_result`, for tests that live in other modules."""
    return build_result


@pytest.fixture(scope="session")
def result() -> SimulationResult:
    """The full example."""
    return build_result()
