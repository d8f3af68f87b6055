"""The traces in `workloads/`: read, honest, and with the structure that recording them again gives."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.loop import Run
from nmsim.training.options import TrainOptions
from nmsim.training.recorder.flops import gemm_flops
from nmsim.workload.store import read_trace

WORKLOADS = Path(__file__).parents[2] / "workloads"
TRAINED = ["digits_resnet_dense", "digits_resnet_sr_ste_2to4", "gpt_w512_dense", "gpt_w512_sr_ste_2to4"]
LARGEST_BYTES = 2_000_000
SIZES = ("width", "layers", "heads", "context")


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


@pytest.mark.parametrize("name", TRAINED)
def test_a_short_run_re_recorded_has_the_structure_of_the_committed_trace(name):
    committed = read_trace(WORKLOADS / f"{name}.nmtrace")
    run = short_run(committed, steps=20 if name.startswith("digits") else 1)
    for _ in range(run.options.steps - 1):
        run.step()
    again = run.recorded_step()[1].trace(name)
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
        assert (record.shape, record.density, record.payload) == (other.shape, other.density, other.payload)
        assert {axis: replace(check, violations=0) for axis, check in record.checks.items()} == {
            axis: replace(check, violations=0) for axis, check in other.checks.items()
        }


@pytest.mark.parametrize("name", TRAINED)
def test_a_committed_trace_says_where_it_came_from_and_stays_small(name):
    folder = WORKLOADS / f"{name}.nmtrace"
    provenance = read_trace(folder).provenance
    assert provenance.kind == "trained"
    assert provenance.step == provenance.hyper_parameters["steps"] >= 400
    assert provenance.command.startswith("nmsim train ")
    assert provenance.command.endswith(f"--trace {name}.nmtrace")
    assert "sha256" in provenance.dataset
    # Far above chance, and no claim beyond: a tenth for digits, a quarter (the space) for characters.
    assert provenance.accuracy is not None
    assert provenance.accuracy > (0.95 if name.startswith("digits") else 0.5)
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST_BYTES


@pytest.mark.parametrize("name", [name for name in TRAINED if "2to4" in name])
def test_sr_ste_masks_hold_in_the_forward_and_break_across_as_random_masks_do(name):
    trace = read_trace(WORKLOADS / f"{name}.nmtrace")
    assert set(trace.payloads) == set(trace.masks)
    for key, record in trace.masks.items():
        forward, across = record.checks[len(record.shape) - 1], record.checks[0]
        assert forward.violations == 0, key
        # 5/16 for independent columns; trained weights are a little correlated.
        assert 0.1 < across.violations / across.groups < 0.4, key


def test_recipes_differ_in_masks_and_not_in_arithmetic():
    for dense, sparse in (("digits_resnet_dense", "digits_resnet_sr_ste_2to4"), ("gpt_w512_dense", "gpt_w512_sr_ste_2to4")):
        one, other = (read_trace(WORKLOADS / f"{name}.nmtrace") for name in (dense, sparse))
        assert gemm_flops(one) == gemm_flops(other)
        assert [gemm.id for gemm in one.gemms] == [gemm.id for gemm in other.gemms]
