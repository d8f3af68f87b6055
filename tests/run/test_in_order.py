"""`--l2 step`: what a layer's products share is found where it still is, strangers are in the way, and both engines agree on it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from nmsim.api import simulate, simulate_gemm, trace_timelines
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.result.frames import key_of
from nmsim.result.rows import KernelRow, SimulationResult
from nmsim.run.choice import RunOptions
from nmsim.run.trace import simulate_trace
from nmsim.sweep.spec import sweep_spec_of_texts
from nmsim.workload.catalogue import attention_gemms, linear_gemms
from nmsim.workload.gemm import Gemm
from nmsim.workload.trace import Trace

TOKENS, INPUTS, OUTPUTS = 512, 256, 384
FP16 = 2
IN_ORDER = RunOptions(l2="step")


def fetched(result: SimulationResult) -> dict[str, int]:
    return {row.gemm_id: row.counters["dram_read_bytes"] for row in result.rows if row.kind == "gemm" and row.scheme == "traced"}


def run_layer(spec: GpuSpec, make_trace: Callable[..., Trace], gemms: list[Gemm]) -> dict[str, int]:
    return fetched(simulate_trace(spec, make_trace(gemms, {}), schemes=("traced",), options=IN_ORDER))


@pytest.fixture(scope="module")
def layer() -> list[Gemm]:
    return linear_gemms("layer", TOKENS, INPUTS, OUTPUTS, "fp16")


def test_a_layer_that_fits_the_l2_reads_each_of_x_w_and_dy_from_dram_once(
    spec: GpuSpec, make_trace: Callable[..., Trace], layer: list[Gemm]
) -> None:
    found = run_layer(spec, make_trace, layer)
    x, w, dy = TOKENS * INPUTS * FP16, INPUTS * OUTPUTS * FP16, TOKENS * OUTPUTS * FP16
    assert found == {"layer:forward": x + w, "layer:backward_data": dy, "layer:backward_weight": 0}


def test_products_of_different_layers_share_nothing(spec: GpuSpec, make_trace: Callable[..., Trace], layer: list[Gemm]) -> None:
    apart = [replace(gemm, id=f"{index}:{gemm.phase}", module=f"{index}") for index, gemm in enumerate(layer)]
    cold = fetched(simulate_trace(spec, make_trace(apart, {}), schemes=("traced",)))
    assert run_layer(spec, make_trace, apart) == cold


def test_launches_of_a_repeated_product_have_operands_of_their_own(
    spec: GpuSpec, make_trace: Callable[..., Trace], layer: list[Gemm]
) -> None:
    repeated = [replace(gemm, repeat=2) for gemm in layer]
    cold = fetched(simulate_trace(spec, make_trace(repeated, {}), schemes=("traced",)))
    assert run_layer(spec, make_trace, repeated) == cold


def test_two_calls_of_a_module_share_its_weight_alone(spec: GpuSpec, make_trace: Callable[..., Trace], layer: list[Gemm]) -> None:
    again = [replace(gemm, id=f"layer#1:{gemm.phase}") for gemm in layer]
    found = run_layer(spec, make_trace, [layer[0], again[0]])
    assert found["layer#1:forward"] == TOKENS * INPUTS * FP16


def test_both_gradients_of_an_attention_product_share_dy(spec: GpuSpec, make_trace: Callable[..., Trace]) -> None:
    """l products of 64 x 64 x 32: the second gradient reads the other operand from DRAM and dY from the L2."""
    batch, queries, keys, width = 8, 64, 128, 32
    gemms = attention_gemms("attention", batch, queries, keys, width, "fp16")
    of_scores = [gemm for gemm in gemms if gemm.id.startswith("attention:scores:backward_data")]
    first, second = of_scores
    found = run_layer(spec, make_trace, of_scores)
    gradient = batch * queries * keys * FP16
    assert found[first.id] > gradient
    assert found[second.id] == {"key": batch * queries * width, "query": batch * keys * width}[second.id.rpartition(":")[2]] * FP16


def test_a_compressed_weight_is_no_other_products_operand_but_its_x_is(spec: GpuSpec, step: Trace) -> None:
    once = replace(step, gemms=tuple(replace(gemm, repeat=1) for gemm in step.gemms))
    warm, cold = (simulate_trace(spec, once, schemes=("traced",), options=options) for options in (IN_ORDER, RunOptions()))
    sparse = {row.gemm_id for row in warm.rows if row.ran_sparse and row.scheme == "traced"}
    assert {"up:forward", "down:forward"} <= sparse
    read, read_cold = fetched(warm), fetched(cold)
    assert read["up:backward_weight"] == read["down:backward_weight"] == 0
    assert all(read[name] <= read_cold[name] for name in read)
    for layer in ("up", "down"):
        assert read[f"{layer}:forward"] == read_cold[f"{layer}:forward"]


def test_tiles_share_their_gathered_columns(spec: GpuSpec, step: Trace) -> None:
    """Of a step that was trained in tiles: the baseline runs the products dense that are slower in tiles."""
    gemms = [
        replace(gemm, repeat=1, b=replace(gemm.b, structure="tile_wise", mask=None) if gemm.b.role == "weight" else gemm.b)
        for gemm in step.gemms
    ]
    result = simulate_trace(spec, replace(step, gemms=tuple(gemms)), schemes=("traced",), options=IN_ORDER)
    ran = {row.gemm_id: row for row in result.rows if row.kind == "gemm" and row.ran_sparse}
    assert ran["down:backward_weight"].counters["dram_read_bytes"] == 0


def test_both_engines_run_a_step_alike(spec: GpuSpec, step: Trace) -> None:
    few = replace(step, gemms=step.gemms[:4], operators=(), passes=())
    compiled, simpy = (
        simulate_trace(spec, few, schemes=("traced",), options=RunOptions(engine, "step")).rows for engine in ("compiled", "simpy")
    )
    assert compiled == simpy


def test_a_step_accounts_for_every_cycle_and_is_filed_apart_from_a_cold_one(spec: GpuSpec, step: Trace) -> None:
    in_order, cold = simulate_trace(spec, step, options=IN_ORDER), simulate_trace(spec, step)
    assert key_of(in_order) != key_of(cold)
    assert [row.gemm_id for row in in_order.rows] == [row.gemm_id for row in cold.rows]
    for row in in_order.rows:
        assert row.busy_cycles + sum(row.stall_cycles.values()) == pytest.approx(row.cycles)

    def unchanged(rows: tuple[KernelRow, ...]) -> list[KernelRow]:
        return [row for row in rows if row.kind != "gemm"]

    assert unchanged(in_order.rows) == unchanged(cold.rows)


def test_it_is_said_where_there_is_no_step(spec: GpuSpec, step: Trace) -> None:
    with pytest.raises(InputError, match="use one of cold, warm"):
        simulate_gemm(spec, m=64, n=64, k=64, l2="step")
    with pytest.raises(InputError, match="use one of cold, warm"):
        sweep_spec_of_texts({"arch": ["a.yaml"], "workload": ["b.nmtrace"], "l2": ["step"]})
    with pytest.raises(InputError, match="by itself"):
        trace_timelines(spec, step, simulate(spec, step, l2="step", baseline=()), l2="step")
