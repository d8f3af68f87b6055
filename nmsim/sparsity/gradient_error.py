"""How far the estimates of a gradient are off: the part that averages out over draws, and the part that does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import require_same_shape


@dataclass(frozen=True)
class GradientError:
    """Squared norms over all elements, as shares of the squared norm of the true gradient; `draws` estimates were seen.

    `bias` is that of the mean, less what the variance alone would leave of it after so many draws: for an unbiased estimate it
    scatters about 0 and can be negative. `variance` is of one draw.
    """

    bias: float
    variance: float
    draws: int

    @property
    def mean_squared_error(self) -> float:
        """Of one draw: bias + variance."""
        return self.bias + self.variance


def gradient_error(true: NDArray[Any], estimates: Iterable[NDArray[Any]]) -> GradientError:
    """Bias and variance of repeated `estimates` of the gradient `true`, all of one shape, held one at a time.

    InputError for a gradient that is all zero or fewer than two estimates.
    """
    gradient = true.astype(np.float64)
    energy = float((gradient**2).sum())
    if energy == 0:
        raise InputError("the error of a gradient that is all zero has no scale", path="true")
    mean, scatter, draws = np.zeros_like(gradient), 0.0, 0
    for estimate in estimates:
        require_same_shape(true=true, estimate=estimate)
        draws += 1
        # Welford: sums of squares would cancel where the variance is small beside the gradient.
        distance = estimate - mean
        mean += distance / draws
        scatter += float((distance * (estimate - mean)).sum())
    if draws < 2:
        raise InputError("a variance takes two or more estimates", path="estimates", value=draws)
    variance = scatter / (draws - 1)
    bias = float(((mean - gradient) ** 2).sum()) - variance / draws
    return GradientError(bias / energy, variance / energy, draws)
