"""S-STE: N:M weights as a continuous function of the dense ones, so that training does not jump where a mask flips.

Hu et al., NeurIPS 2024: from each magnitude of a group the largest *pruned* magnitude is subtracted, so that an element passes
through zero when it leaves the kept ones. The whole tensor is then scaled once, by the least-squares factor at the start, which
the authors freeze: a factor that follows the weights would feed back into them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import join_groups, require_same_shape, split_groups
from nmsim.sparsity.mask import magnitudes
from nmsim.sparsity.pattern import NMPattern


def soft_threshold(weights: NDArray[Any], pattern: NMPattern, axis: int = -1) -> NDArray[Any]:
    """sign(w) max(|w| - t, 0), with t the (M - N)-th smallest magnitude of each group along `axis`; same shape and type.

    Ties with t become zero too, so a group can keep fewer than N. A tail shorter than M is zero-padded. Real floats only.
    """
    if weights.dtype.kind != "f":
        raise InputError("a soft threshold makes fractions: weights are floating-point numbers", path="weights", value=weights.dtype.name)
    sizes = split_groups(magnitudes(weights), pattern.m, axis)
    zeros = pattern.m - pattern.n
    if zeros:
        sizes = np.maximum(sizes - np.partition(sizes, zeros - 1, axis=2)[:, :, zeros - 1 : zeros], 0)
    shrunk = join_groups(sizes, weights.shape, axis % weights.ndim)
    return np.where(shrunk > 0, np.copysign(shrunk, weights), 0).astype(weights.dtype)


def least_squares_scale(weights: NDArray[Any], thresholded: NDArray[Any]) -> float:
    """beta = <w, s> / <s, s>, the factor that brings beta s nearest to w; InputError where `thresholded` is all zero."""
    require_same_shape(weights=weights, thresholded=thresholded)
    w, s = weights.astype(np.float64).ravel(), thresholded.astype(np.float64).ravel()
    energy = float(s @ s)
    if energy == 0:
        raise InputError("weights that the threshold made all zero have no scale", path="thresholded")
    return float(w @ s) / energy
