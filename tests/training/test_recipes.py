"""What each recipe lets the three products skip, read from the recorded masks, and what it does to weights and gradients."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import nmsim.training
from nmsim.cli.train import RECIPE_NAMES
from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.tile_wise import kept_macs, mask_of_plan
from nmsim.training.channels import Axis, ChannelSpace
from nmsim.training.layers import SparseConv2d, SparseLinear
from nmsim.training.loop import Run, train
from nmsim.training.masking import nm_mask
from nmsim.training.options import TrainOptions
from nmsim.training.recipes import RECIPES, make_recipe
from nmsim.training.selection import sparsify
from nmsim.training.stages import MAIN, learning_rate_leg, split_steps, stage_of
from nmsim.workload.gemm import PHASES
from nmsim.workload.legality import usable_structure
from nmsim.workload.store import read_trace
from nmsim.workload.validate import trace_findings

PATTERN = NMPattern(2, 4)
SPARSE_PHASES = {
    "dense": (),
    "ste": ("forward",),
    "sr-ste": ("forward",),
    "asp": ("forward",),
    "transposable": ("forward", "backward_data"),
    "bdwp": ("forward", "backward_data"),
    "mvue": ("backward_weight",),
    "fst": PHASES,
    "adaprune": ("forward",),
    "permute": ("forward",),
    "tile-wise": (),
    "tew": (),
    "unstructured": (),
}
"""Recipe -> the products that an N:M operand along their own reduction speeds up; tile-wise and unstructured have none."""


class Network(nn.Sequential):
    """Three linear layers, the first two of them pruned; channels may be reordered between them."""

    def channel_spaces(self):
        first = ChannelSpace(128, (Axis("0.weight"), Axis("0.bias"), Axis("2.weight", 1)), (Axis("2.weight", 1),))
        return [first, ChannelSpace(64, (Axis("2.weight"), Axis("2.bias"), Axis("4.weight", 1)), (Axis("4.weight", 1),))]


def network():
    return Network(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 4))


def mask_of(layer):
    assert layer.weight_mask is not None
    return layer.weight_mask


def step_of_main_stage(recipe, steps=12):
    """The last step of the main stage."""
    end = 0
    for stage in recipe.stages(steps):
        end += stage.steps
        if stage.name == MAIN:
            return end
    raise AssertionError("no stage is the main one")


def recorded(name, pattern, steps=12, **options):
    """A trace of the last step of the main stage, masks drawn on the way as in a run."""
    recipe = make_recipe(name, pattern, options)
    model = network()
    layers = list(sparsify(model, recipe, pattern).values()) if recipe.prunes else []
    for step in range(1, step_of_main_stage(recipe, steps) + 1):
        with torch.no_grad():
            recipe.begin_step(model, layers, step, steps)
            model(torch.randn(64, 64))
    with nmsim.training.record(model) as builder:
        (model(torch.randn(64, 64)) * torch.randn(64, 4)).sum().backward()
    trace = builder.trace("test")
    assert list(trace_findings(trace)) == []
    return trace


def sparse_phases(trace, module="2"):
    """Phase -> pattern of the operand that a sparse tensor core may use in it."""
    found = {}
    for gemm in trace.gemms:
        for operand in (gemm.a, gemm.b):
            if gemm.module == module and usable_structure(gemm, operand, trace).ok:
                found[gemm.phase] = operand.pattern
    return found


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("pattern", [NMPattern(1, 2), PATTERN, NMPattern(2, 8), NMPattern(4, 16), NMPattern(8, 32)], ids=str)
def test_the_masks_themselves_say_which_products_may_run_sparse(name, pattern):
    assert sparse_phases(recorded(name, pattern)) == dict.fromkeys(SPARSE_PHASES[name], pattern)


@pytest.mark.parametrize(
    ("name", "pattern", "method"),
    [
        ("dense", PATTERN, "dense"),
        ("sr-ste", PATTERN, "SR-STE 2:4"),
        ("transposable", PATTERN, "transposable 2:4 or 4:8"),
        ("bdwp", PATTERN, "BDWP 2:4"),
        ("bdwp", NMPattern(2, 8), "BDWP 2:8"),
    ],
)
def test_the_macs_left_are_the_published_budget(name, pattern, method, vectors):
    budget = vectors["training_mac_budget"]["per_method"][method]
    skipped = sparse_phases(recorded(name, pattern))
    left = sum((skipped[phase].density if phase in skipped else Fraction(1) for phase in PHASES), Fraction(0)) / 3
    assert float(left) == pytest.approx(budget["total_mac_fraction"])


def test_passes_are_those_that_the_recipe_adds():
    kinds = {name: Counter(one.kind for one in recorded(name, PATTERN).passes if one.module == "2") for name in RECIPES}
    assert kinds["dense"] == {}
    assert kinds["ste"] == {"mask_search": 1, "compress": 1}
    assert kinds["sr-ste"] == kinds["ste"] + Counter(decay=1)
    assert kinds["transposable"] == {"mask_search": 1, "prune": 1, "compress": 1, "transpose": 1}
    assert kinds["bdwp"] == {"mask_search": 2, "compress": 1, "transpose": 1}
    assert kinds["mvue"] == {"mvue_sample": 1}
    assert kinds["fst"] == kinds["transposable"] + Counter(mvue_sample=1, decay=1)
    by_id = {one.id: one for one in recorded("fst", PATTERN).passes}
    assert by_id["2:mask_search"].every_steps == 40
    sampling = by_id["2:mvue_sample"]
    # dY is 64 tokens x 64 outputs of 2 bytes; half of it and 2 bits of metadata a kept value are written.
    assert (sampling.bytes_read, sampling.bytes_written) == (64 * 64 * 2, 64 * 64 + 64 * 64 // 8)
    assert sampling.scales_with_batch
    # 90 candidate blocks, a multiplication and an addition for each weight.
    assert by_id["2:mask_search"].operations == 2 * 90 * 128 * 64


def test_a_transposable_mask_lasts_until_its_refresh():
    recipe = make_recipe("transposable", PATTERN, {"refresh_steps": "3"})
    model = network()
    layers = list(sparsify(model, recipe, PATTERN).values())
    masks = []
    for step in range(1, 8):
        with torch.no_grad():
            recipe.begin_step(model, layers, step, 7)
            layers[0].weight.copy_(torch.randn_like(layers[0].weight))
        masks.append(layers[0].weight_mask)
    same = [masks[i] is masks[i + 1] for i in range(6)]
    assert same == [True, True, False, True, True, False]


def test_bdwp_prunes_the_backward_from_the_master_weight_and_not_from_the_forwards():
    model = network()
    layer = sparsify(model, make_recipe("bdwp", PATTERN, {}), PATTERN)["2"]
    model(torch.randn(8, 64)).sum().backward()
    assert layer.weight_backward_mask is not None
    across = layer.weight_backward_mask.numpy()
    assert check_groups(across, PATTERN, 0).violations == 0
    # All of the kept budget: half of everything, and not half of what the forward left.
    assert across.mean() == 0.5
    assert not np.array_equal(across, mask_of(layer).numpy())


def test_the_dense_tail_of_fst_is_dense_and_costs_nothing():
    recipe = make_recipe("fst", PATTERN, {})
    assert [(stage.name, stage.steps) for stage in recipe.stages(60)] == [(MAIN, 50), ("dense_tail", 10)]
    model = network()
    layers = list(sparsify(model, recipe, PATTERN).values())
    for step in (1, 51):
        recipe.begin_step(model, layers, step, 60)
    with nmsim.training.record(model) as builder:
        model(torch.randn(64, 64)).sum().backward()
    trace = builder.trace("tail")
    assert trace.masks == {}
    assert trace.passes == ()


def test_asp_trains_dense_then_keeps_one_mask_and_begins_the_schedule_anew():
    recipe = make_recipe("asp", PATTERN, {})
    stages = recipe.stages(20)
    assert [(stage.name, stage.steps, stage.restarts) for stage in stages] == [("dense", 10, False), (MAIN, 10, True)]
    assert [learning_rate_leg(stages, step) for step in (1, 10, 11, 20)] == [(1, 10), (10, 10), (1, 10), (10, 10)]
    run = Run(TrainOptions("resnet", "asp", PATTERN, steps=6, batch=8, sizes={"width": 8, "layers": 1}, threads=1))
    kept = []
    for _ in range(6):
        run.step()
        kept.append([layer.weight_mask for layer in run.layers.values()])
    assert all(mask is None for mask in kept[2])
    assert all(mask is not None for mask in kept[3])
    assert all(one is other for one, other in zip(kept[3], kept[5], strict=True))


def test_the_gradient_of_a_pruned_weight_is_dropped_where_masks_are_fixed():
    for name in ("asp", "tile-wise", "unstructured", "permute", "tew"):
        recipe = make_recipe(name, PATTERN, {})
        model = network()
        layers = list(sparsify(model, recipe, PATTERN).values())
        for step in range(1, 13):
            with torch.no_grad():
                recipe.begin_step(model, layers, step, 12)
        model(torch.randn(8, 64)).sum().backward()
        gradient, mask = layers[1].weight.grad, mask_of(layers[1])
        assert gradient is not None
        assert not gradient[~mask].any(), name
        assert gradient[mask].count_nonzero() > 0


def test_tile_wise_stages_pass_the_published_densities_and_record_their_own_plans(tmp_path):
    recipe = make_recipe("tile-wise", NMPattern(1, 4), {})
    names = [stage.name for stage in recipe.stages(100)]
    assert names == ["dense", "keep_75", "keep_65", "keep_50", "keep_45", "keep_40", "keep_35", "keep_30", MAIN]
    assert sum(stage.steps for stage in recipe.stages(100)) == 100
    trace = recorded("tile-wise", PATTERN)
    assert trace.own_density == "1/2"
    plans = trace.tile_wise["1/2"]
    assert set(plans) == {"0", "2"}
    kept = sum(kept_macs(plan.columns, plan.rows, plan.tile_width) for plan in plans.values())
    assert kept / (2 * 64 * 128) == pytest.approx(0.5, abs=0.01)
    structures = {gemm.id: gemm.b.structure for gemm in trace.gemms}
    assert (structures["2:forward"], structures["2:backward_data"]) == ("tile_wise", "tile_wise")
    assert structures["4:forward"] == "dense"


def test_unstructured_pruning_ends_at_its_density_over_the_network():
    recipe = make_recipe("unstructured", PATTERN, {})
    model = network()
    layers = list(sparsify(model, recipe, PATTERN).values())
    densities = []
    for step in range(1, 201):
        with torch.no_grad():
            recipe.begin_step(model, layers, step, 200)
        if layers[0].is_masked:
            kept = sum(int(mask_of(layer).count_nonzero()) for layer in layers)
            densities.append(kept / sum(layer.weight.numel() for layer in layers))
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] == pytest.approx(0.5, abs=1e-3)


def test_a_run_records_a_step_of_every_stage_and_says_how_many_steps_each_stands_for(tmp_path):
    options = TrainOptions("vit", "fst", PATTERN, steps=12, batch=8, sizes={"width": 32, "layers": 1, "heads": 2}, threads=1)
    train(options, tmp_path / "small.nmtrace")
    trace, tail = read_trace(tmp_path / "small.nmtrace"), read_trace(tmp_path / "small-dense_tail.nmtrace")
    assert [dict(entry) for entry in trace.schedule] == [
        {"steps": 10, "trace": "small.nmtrace"},
        {"steps": 2, "trace": "small-dense_tail.nmtrace"},
    ]
    assert (trace.provenance.step, tail.provenance.step) == (10, 12)
    assert trace.provenance.accuracy is not None
    assert tail.provenance.accuracy is None
    assert trace.passes
    assert not tail.passes
    assert sparse_phases(trace, "blocks.0.mlp.up").keys() == set(PHASES)
    assert sparse_phases(tail, "blocks.0.mlp.up") == {}


@pytest.mark.parametrize(
    ("name", "model", "optimizer", "steps"),
    [
        *((name, "resnet", "sgd", 30) for name in ("sr-ste", "fst", "tile-wise")),
        *((name, "resnet", "adamw", 30) for name in ("bdwp", "mvue", "fst")),
        ("sr-ste", "vit", "adamw", 80),
    ],
)
def test_recipes_train_convolutions_and_attention_with_either_optimiser(name, model, optimizer, steps):
    sizes = {"width": 32, "layers": 1, "heads": 2} if model == "vit" else {"width": 16, "layers": 1}
    rate = 0.1 if optimizer == "sgd" else 5e-3
    options = TrainOptions(model, name, PATTERN, steps=steps, batch=32, optimizer=optimizer, learning_rate=rate, sizes=sizes, threads=1)
    run = Run(options)
    reports = [run.step() for _ in range(steps)]
    first, last = (sum(report.loss for report in part) / 5 for part in (reports[:5], reports[-5:]))
    assert last < 0.9 * first


def test_splitting_steps_loses_none_and_needs_one_for_each_stage():
    assert split_steps(10, (0.5, 0.3, 0.2)) == [5, 3, 2]
    assert sum(split_steps(7, (0.9, 0.05, 0.05))) == 7
    with pytest.raises(InputError, match="the recipe has 3 stages of at least one step, got 2"):
        split_steps(2, (0.4, 0.3, 0.3))
    stages = make_recipe("fst", PATTERN, {}).stages(12)
    assert [stage_of(stages, step).name for step in (1, 10, 11, 12)] == [MAIN, MAIN, "dense_tail", "dense_tail"]


def test_every_layer_draws_its_own_numbers_and_equal_seeds_draw_equal_ones():
    def drawn(seed):
        layers = sparsify(network(), make_recipe("mvue", PATTERN, {}), PATTERN, seed)
        return [torch.rand(4, generator=layer.generator) for layer in layers.values()]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("kind", "dense", "shape"), [(SparseLinear, nn.Linear(8, 12), (2, 8, 12)), (SparseConv2d, nn.Conv2d(8, 12, 3), (2, 12, 4, 4))]
)
def test_a_sampled_gradient_keeps_the_layout_of_its_layer(kind, dense, shape):
    layer = kind(dense, "0", make_recipe("mvue", PATTERN, {}))
    gradient = torch.randn(shape)
    assert torch.equal(layer.from_rows(layer.to_rows(gradient), gradient), gradient)
    estimate = layer.recipe.output_gradient(layer, gradient)
    assert estimate.shape == gradient.shape
    assert check_groups((layer.to_rows(estimate) != 0).numpy(), PATTERN, 0).violations == 0


def test_adaprune_fits_the_outputs_that_a_layer_had_on_the_inputs_that_it_sees():
    """The converted layer is nearer to the unstructured one than plain magnitude pruning is, on the data it was fitted to."""
    recipe = make_recipe("adaprune", PATTERN, {})
    model = network()
    layers = list(sparsify(model, recipe, PATTERN).values())
    inputs = torch.randn(512, 64) @ torch.randn(64, 64)
    dense, unstructured, _ = (stage.steps for stage in recipe.stages(10))
    for step in range(1, dense + unstructured + 1):
        with torch.no_grad():
            recipe.begin_step(model, layers, step, 10)
            model(inputs)
    first = layers[0]
    with torch.no_grad():
        before = first(inputs)
        pruned = first.weight * mask_of(first)
        plain = nn.functional.linear(inputs, pruned * nm_mask(pruned, PATTERN), first.bias)
        recipe.begin_step(model, layers, dense + unstructured + 1, 10)
        after = first(inputs)
    assert float((after - before).square().mean()) < 0.5 * float((plain - before).square().mean())
    assert check_groups(mask_of(first).numpy(), PATTERN, -1).violations == 0


def test_the_rows_of_a_convolution_multiply_to_its_outputs():
    layer = SparseConv2d(nn.Conv2d(6, 5, (3, 2), stride=2, padding=1, dilation=1, bias=False), "0", make_recipe("dense", PATTERN, {}))
    inputs = torch.randn(2, 6, 7, 8)
    filters = layer.to_gemm_layout(layer.weight).flatten(1)
    torch.testing.assert_close(layer.input_rows(inputs) @ filters.t(), layer.to_rows(layer(inputs)))


def test_tile_and_elements_together_keep_the_density():
    """Recorded are the tiles, at the density that they keep, and where a layer keeps more a mask of which the rest was restored."""
    trace = recorded("tew", PATTERN)
    assert trace.own_density == "49/100"
    plans = trace.tile_wise["49/100"]
    kept = outside = 0
    for gemm in trace.gemms:
        if gemm.module not in plans or gemm.phase != "forward":
            continue
        plan = plans[gemm.module]
        in_tiles = mask_of_plan(plan.columns, plan.rows, plan.tile_width).T
        mask = in_tiles if gemm.b.mask is None else trace.payloads[gemm.b.mask]
        assert gemm.b.structure == "tile_wise"
        assert (mask | ~in_tiles).all()
        kept += int(mask.sum())
        outside += int((mask & ~in_tiles).sum())
    assert len(trace.masks) > 0
    assert outside == pytest.approx(0.01 * 2 * 64 * 128, abs=1)
    assert kept / (2 * 64 * 128) == pytest.approx(0.5, abs=0.01)


def test_work_that_is_done_once_is_charged_once_in_its_stage():
    by_id = {one.id: one for one in recorded("permute", PATTERN, steps=12).passes}
    assert by_id["2:permute"].every_steps == by_id["2:mask_search"].every_steps == 6
    assert by_id["2:prune"].every_steps == 1


def test_the_command_line_lists_the_recipes_that_there_are():
    assert sorted(RECIPE_NAMES.split(", ")) == sorted(RECIPES)


def test_wrong_options_of_the_estimator_are_named():
    with pytest.raises(InputError, match="no such estimator, got 'best'; choose one of exact, approximate, greedy"):
        make_recipe("mvue", PATTERN, {"estimator": "best"})
    with pytest.raises(InputError, match="the approximate estimator draws two of each group, got '1:2'"):
        make_recipe("mvue", NMPattern(1, 2), {"estimator": "approximate"})
