"""The traces in `workloads/`: read, honest, and with the structure that recording them again gives."""

from __future__ import annotations

import shlex
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs
from nmsim.training.loop import Run
from nmsim.training.options import TrainOptions
from nmsim.training.recorder.flops import gemm_flops
from nmsim.training.stages import MAIN
from nmsim.workload.gemm import PHASES
from nmsim.workload.history import read_history
from nmsim.workload.legality import usable_structure
from nmsim.workload.store import read_trace
from nmsim.workload.summary import check_trace

WORKLOADS = Path(__file__).parents[2] / "workloads"
NAMES = sorted(folder.name.removesuffix(".nmtrace") for folder in WORKLOADS.glob("*.nmtrace"))
STAGES = [name for name in NAMES if "-" in name]
FULL = [name for name in NAMES if read_trace(WORKLOADS / f"{name}.nmtrace").provenance.kind == "initialised"]
TRAINED = [name for name in NAMES if name not in (*STAGES, *FULL)]
QUICK = ("digits_resnet_sr_ste_2to4", "digits_vit_dense", "digits_vit_fst_2to4")
"""Recorded again in every test run; the others, which differ in their recipe alone, when slow tests are asked for."""
LARGEST_BYTES = 2_000_000
SIZES = ("width", "layers", "heads", "context")
IDEAL: dict[str, dict[str, bool]] = {
    "dense": dict.fromkeys(PHASES, False),
    "sr-ste": {"forward": True, "backward_data": False, "backward_weight": False},
    "transposable": {"forward": True, "backward_data": True, "backward_weight": False},
    "bdwp": {"forward": True, "backward_data": True, "backward_weight": False},
    "fst": dict.fromkeys(PHASES, True),
}
"""Recipe -> which products of a pruned layer the budget of the literature counts as N:M (facts, section 0)."""


def trace_of(name):
    return read_trace(WORKLOADS / f"{name}.nmtrace")


def short_run(trace, steps):
    """The run that the trace's own command describes, cut to `steps`."""
    words = shlex.split(trace.provenance.command)
    given = dict(zip(words[3:-2:2], words[4:-2:2], strict=True))
    return Run(
        TrainOptions(
            model=words[2],
            recipe=given["--recipe"],
            pattern=NMPattern.parse(given["--pattern"]),
            steps=steps,
            batch=int(given["--batch"]) if "--batch" in given else None,
            seed=int(given["--seed"]),
            threads=1,
            sizes={size: int(given[f"--{size}"]) for size in SIZES if f"--{size}" in given},
        )
    )


def recorded_again(committed, steps):
    """The last step of the main stage of the run, cut to `steps`."""
    run = short_run(committed, steps)
    for stage in run.stages:
        for _ in range(stage.steps - 1):
            run.step()
        builder = run.recorded_step()[1]
        if stage.name == MAIN:
            return builder.trace(committed.name)
    raise AssertionError("no stage is the main one")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TRAINED if "tile_wise" not in name]
)
def test_a_short_run_re_recorded_has_the_structure_of_the_committed_trace(name):
    committed = trace_of(name)
    again = recorded_again(committed, steps=20 if name.startswith("digits") else 6)
    assert again.gemms == committed.gemms
    assert again.operators == committed.operators
    assert again.passes == committed.passes
    assert (again.batch, again.dtype, again.own_density) == (committed.batch, committed.dtype, committed.own_density)
    assert {density: sorted(plans) for density, plans in again.tile_wise.items()} == {
        density: sorted(plans) for density, plans in committed.tile_wise.items()
    }
    # Masks differ, because the run was cut short: everything else that is said of them is the same.
    assert again.masks.keys() == committed.masks.keys()
    for key, record in again.masks.items():
        other = committed.masks[key]
        assert (record.shape, record.payload) == (other.shape, other.payload)
        assert record.density == pytest.approx(other.density, abs=0 if record.payload else 1e-2)
        assert {axis: replace(check, violations=0) for axis, check in record.checks.items()} == {
            axis: replace(check, violations=0) for axis, check in other.checks.items()
        }


@pytest.mark.parametrize("name", TRAINED)
def test_a_committed_trace_says_where_it_came_from_and_stays_small(name):
    folder = WORKLOADS / f"{name}.nmtrace"
    provenance = read_trace(folder).provenance
    assert provenance.kind == "trained"
    assert 300 <= provenance.step <= provenance.hyper_parameters["steps"]
    assert provenance.command.startswith("nmsim train ")
    assert provenance.command.endswith(f"--trace {name}.nmtrace")
    assert "sha256" in provenance.dataset
    # Far above chance, and no claim beyond: a tenth for digits, a quarter (the space) for characters.
    least = {"digits_resnet": 0.95, "digits_vit": 0.9, "gpt_w512": 0.5, "gpt_w256": 0.45}
    assert provenance.accuracy is not None
    assert provenance.accuracy > next(bar for network, bar in least.items() if name.startswith(network))
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST_BYTES


@pytest.mark.parametrize("name", [name for name in TRAINED if "sr_ste" in name])
def test_sr_ste_masks_hold_in_the_forward_and_break_across_as_random_masks_do(name):
    trace = trace_of(name)
    assert set(trace.payloads) == set(trace.masks)
    for key, record in trace.masks.items():
        forward, across = record.checks[len(record.shape) - 1], record.checks[0]
        assert forward.violations == 0, key
        # 5/16 of 2:4 groups for independent columns; trained weights are a little correlated.
        assert 0.05 < across.violations / across.groups < 0.5, key


def pruned_layers(trace):
    return trace.provenance.hyper_parameters["pruned"]


@pytest.mark.parametrize("name", [name for name in (*TRAINED, *FULL) if "tile_wise" not in name])
def test_every_product_of_a_pruned_layer_may_skip_what_the_ideal_budget_says_and_no_more(name):
    trace = trace_of(name)
    ideal, pruned = IDEAL[trace.provenance.recipe], set(pruned_layers(trace))
    for gemm in trace.gemms:
        usable = [found for operand in (gemm.a, gemm.b) if (found := usable_structure(gemm, operand, trace)).ok]
        assert bool(usable) == (gemm.module in pruned and ideal[gemm.phase]), gemm.id
        for one in usable:
            assert str(one.pattern) == trace.provenance.hyper_parameters["pattern"]


@pytest.mark.parametrize("name", [name for name in NAMES if "tile_wise" in name])
def test_a_tile_wise_trace_holds_the_plans_that_it_was_trained_with(name):
    trace = trace_of(name)
    if name.endswith("-dense"):
        assert trace.masks == {}
        return
    assert trace.own_density is not None
    plans = trace.tile_wise[trace.own_density]
    assert set(plans) == set(pruned_layers(trace))
    kept = sum(kept_macs(plan.columns, plan.rows, plan.tile_width) for plan in plans.values())
    assert kept / sum(plan.columns.size * plan.rows.shape[1] for plan in plans.values()) == pytest.approx(
        float(Fraction(trace.own_density)), abs=0.01
    )
    structures = {gemm.b.structure for gemm in trace.gemms if gemm.module in plans and gemm.phase != "backward_weight"}
    assert structures == {"tile_wise"}


@pytest.mark.parametrize("name", [name for name in TRAINED if not name.startswith("gpt_w512")])
def test_a_run_has_a_schedule_whose_stages_are_beside_it_and_a_history(name):
    trace = trace_of(name)
    steps = trace.provenance.hyper_parameters["steps"]
    assert sum(entry["steps"] for entry in trace.schedule) == steps
    for entry in trace.schedule:
        assert gemm_flops(read_trace(WORKLOADS / entry["trace"])) == gemm_flops(trace)
    history = read_history(WORKLOADS / f"{name}.nmtrace")
    assert history is not None
    assert (history.step[0], history.step[-1]) == (1, steps)
    assert history.loss[-1] < history.loss[0] / 1.5
    if trace.provenance.recipe == "sr-ste":
        assert history.flip_rate[-1] < max(history.flip_rate[:3])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_about_a_committed_trace_is_surely_not_meant(name):
    assert check_trace(WORKLOADS / f"{name}.nmtrace") == []


def test_recipes_differ_in_masks_and_not_in_arithmetic():
    for task in ("digits_resnet", "digits_vit", "gpt_w256", "gpt_w512"):
        members = [trace_of(name) for name in TRAINED if name.startswith(task)]
        assert len({gemm_flops(trace) for trace in members}) == 1
        assert len({tuple(gemm.id for gemm in trace.gemms) for trace in members}) == 1


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_trace_says_that_it_was_never_trained_and_left_its_masks_out(name):
    trace = trace_of(name)
    assert (trace.provenance.accuracy, trace.provenance.step, trace.batch) == (None, 1, 1)
    assert "initialised" in trace.provenance.notes[0]
    assert trace.payloads == {}
    assert sum(file.stat().st_size for file in (WORKLOADS / f"{name}.nmtrace").iterdir()) < LARGEST_BYTES
