"""SR-STE: the straight-through update that also pulls the pruned weights towards zero (reference, numpy).

Zhou et al., ICLR 2021 (arXiv 2102.04010): W <- W - lr (g + lambda (1 - E) W), with E the magnitude mask of W, redrawn each step,
and g the *dense* gradient taken at the sparse weights E W. lambda = 0 is the plain straight-through estimator (STE).
The decay is on the pruned weights only: on the kept ones it would shrink what the network uses, and the masks would churn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.groups import require_mask, require_same_shape

DEFAULT_DECAY = 2e-4
"""lambda_W of the authors' ImageNet recipes (NM-sparsity/NM-sparsity, sparse_ops)."""


def effective_gradient(
    gradient: NDArray[Any], weights: NDArray[Any], mask: NDArray[np.bool_], decay: float = DEFAULT_DECAY
) -> NDArray[Any]:
    """Gradient + decay (1 - mask) w: what the optimiser is given, so that momentum and Adam's scaling see the decay.

    This is SR-STE's rule and the "masked decay on gradients" of Hu et al., ICML 2024 (arXiv 2404.01847).
    All arrays have the weight's shape, else InputError.
    """
    require_same_shape(gradient=gradient, weights=weights, mask=require_mask(mask))
    return np.where(mask, gradient, gradient + decay * weights)


def sgd_step(
    weights: NDArray[Any], gradient: NDArray[Any], mask: NDArray[np.bool_], learning_rate: float, decay: float = DEFAULT_DECAY
) -> NDArray[Any]:
    """The master weights after one SR-STE step of plain SGD (no momentum, no weight decay)."""
    return weights - learning_rate * effective_gradient(gradient, weights, mask, decay)


def decay_pruned_weights(weights: NDArray[Any], mask: NDArray[np.bool_], learning_rate: float, decay: float) -> NDArray[Any]:
    """Weights less learning_rate decay (1 - mask) w: the decay applied to the weights themselves, outside the optimiser.

    Under plain SGD that equals decay on the gradient; under Adam it does not, since Adam rescales a decay inside the gradient.
    """
    require_same_shape(weights=weights, mask=require_mask(mask))
    return np.where(mask, weights, weights * (1 - learning_rate * decay))
