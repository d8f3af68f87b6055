"""Tile-wise pruning over a network whose layers have weights of different sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.recipes import make_recipe
from nmsim.training.recipes.tile_wise import TileWise
from nmsim.training.selection import sparsify

PATTERN = NMPattern(2, 4)


def test_a_promised_share_keeps_a_layer_of_small_weights_from_being_emptied():
    kept = {}
    for name in ("tile-wise", "tew"):
        for least in ("0", "0.25"):
            recipe = make_recipe(name, PATTERN, {"least_share": least})
            assert isinstance(recipe, TileWise)
            small = nn.Linear(128, 64)
            model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), small, nn.GELU(), nn.Linear(64, 4))
            with torch.no_grad():
                small.weight.mul_(0.01)
                layers = list(sparsify(model, recipe, PATTERN).values())
                recipe.prune(layers, PATTERN.density)
            kept[name, least] = float(layers[1].mask_in_gemm_layout().float().mean())
        assert kept[name, "0"] < 0.1
        assert 0.25 <= kept[name, "0.25"] < 0.3
    with pytest.raises(InputError, match=r"least_share: a layer can't be promised more than the whole keeps, got 0\.6; use 0 to 0\.5"):
        make_recipe("tile-wise", PATTERN, {"least_share": "0.6"})
    with pytest.raises(InputError, match=r"the restored share lies between 0 and the density, got 0\.5"):
        make_recipe("tew", PATTERN, {"restored": "0.5"})
