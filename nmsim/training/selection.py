"""Which layers are pruned: the convention of the N:M literature, and the step that puts them under a recipe.

Every linear layer and convolution, except the first convolution (it reads pixels), the last linear layer (classifier or
language-model head), grouped convolutions, and layers whose weight an embedding shares. Embeddings and normalisations stay dense.
"""

from __future__ import annotations

from torch import nn

from nmsim.sparsity.pattern import NMPattern
from nmsim.training.layers import SparseConv2d, SparseLayer, SparseLinear
from nmsim.training.recipes.recipe import Recipe

CONVENTION = "linear and convolution layers except the first convolution, the last linear layer and grouped convolutions"


def prunable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Module path -> layer, in module order, of the layers that the convention prunes.

    Only plain `nn.Linear` and `nn.Conv2d` and nmsim's own sparse layers: a subclass may use its weight in another way.
    """
    layers = {name: layer for name, layer in model.named_modules() if type(layer) in (nn.Linear, nn.Conv2d, SparseLinear, SparseConv2d)}
    embedded = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Embedding)}
    convolutions = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d | SparseConv2d)]
    linears = [name for name, layer in layers.items() if isinstance(layer, nn.Linear | SparseLinear)]
    dense = {*convolutions[:1], *linears[-1:]}
    return {
        name: layer
        for name, layer in layers.items()
        if name not in dense and id(layer.weight) not in embedded and getattr(layer, "groups", 1) == 1
    }


def sparsify(model: nn.Module, recipe: Recipe, pattern: NMPattern, seed: int = 0) -> dict[str, SparseLayer]:
    """Puts every prunable layer of `model` in which `pattern` saves something under `recipe`; module path -> the new layer.

    `seed` seeds what layers draw (sampled gradients), each layer for itself.
    """
    sparse: dict[str, SparseLayer] = {}
    for name, layer in prunable_layers(model).items():
        # [O, I] or [O, C, R, S]: axis 1 is the reduction's channel axis.
        channels = layer.get_parameter("weight").shape[1]
        if pattern.compressed_k(channels) >= channels:
            continue
        parent, _, leaf = name.rpartition(".")
        if isinstance(layer, nn.Linear):
            sparse[name] = SparseLinear(layer, name, recipe)
        elif isinstance(layer, nn.Conv2d):
            sparse[name] = SparseConv2d(layer, name, recipe)
        sparse[name].generator.manual_seed(seed * 1_000_003 + len(sparse))
        setattr(model.get_submodule(parent), leaf, sparse[name])
    return sparse
