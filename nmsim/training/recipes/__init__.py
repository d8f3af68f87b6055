"""The recipes by name: adding one is a file here and a row in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.recipes.adaprune import AdaPrune
from nmsim.training.recipes.asp import Asp
from nmsim.training.recipes.bdwp import Bdwp
from nmsim.training.recipes.dense import Dense
from nmsim.training.recipes.fst import Fst
from nmsim.training.recipes.mvue import Mvue
from nmsim.training.recipes.permute import Permute
from nmsim.training.recipes.recipe import Recipe
from nmsim.training.recipes.sr_ste import SrSte
from nmsim.training.recipes.ste import Ste
from nmsim.training.recipes.tew import Tew
from nmsim.training.recipes.tile_wise import TileWise
from nmsim.training.recipes.transposable import Transposable
from nmsim.training.recipes.unstructured import Unstructured

RECIPES: dict[str, type[Recipe]] = {
    "dense": Dense,
    "asp": Asp,
    "ste": Ste,
    "sr-ste": SrSte,
    "transposable": Transposable,
    "bdwp": Bdwp,
    "mvue": Mvue,
    "fst": Fst,
    "adaprune": AdaPrune,
    "permute": Permute,
    "tile-wise": TileWise,
    "tew": Tew,
    "unstructured": Unstructured,
}


def make_recipe(name: str, pattern: NMPattern, options: Mapping[str, str]) -> Recipe:
    """The recipe `name` with its hyper-parameters set from texts; InputError for an unknown name, option or a bad value."""
    if name not in RECIPES:
        raise InputError("no such recipe", path="--recipe", value=name, fix=f"choose one of {', '.join(RECIPES)}")
    kind = RECIPES[name]
    defaults: dict[str, Any] = {field.name: field.default for field in fields(kind) if field.name != "pattern"}
    values: dict[str, Any] = {}
    for key, text in options.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            raise InputError(f"recipe {name} has no such option", path="--recipe-option", value=key, fix=f"its options: {known}")
        try:
            values[key] = type(defaults[key])(text)
        except ValueError as error:
            wanted = type(defaults[key]).__name__
            raise InputError(f"recipe {name}: {key} is of type {wanted}", path="--recipe-option", value=text) from error
    return kind(pattern, **values)
