from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nmsim.sparsity.mask import nm_mask as reference
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.masking import nm_mask

patterns = st.sampled_from([NMPattern(1, 2), NMPattern(2, 4), NMPattern(1, 4), NMPattern(4, 8), NMPattern(2, 8), NMPattern(3, 5)])
# Few distinct values, so that ties are the rule.
few_values = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0])
weights = arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=4, max_side=11), elements=few_values)


@given(weights, patterns, st.integers(0, 3))
def test_masks_of_tensors_are_those_of_the_numpy_rule_ties_and_tails_included(values, pattern, axis):
    axis %= values.ndim
    found = nm_mask(torch.from_numpy(values), pattern, axis).numpy()
    assert np.array_equal(found, reference(values, pattern, axis))


def test_a_mask_carries_no_gradient():
    weight = torch.randn(4, 8, requires_grad=True)
    assert not nm_mask(weight, NMPattern(2, 4)).requires_grad
