"""1,797 images of handwritten digits, 8 x 8, that ship with scikit-learn (UCI optical recognition of handwritten digits)."""

from __future__ import annotations

import hashlib

import torch

from nmsim.training import require_training_packages
from nmsim.training.data.dataset import Dataset

HELD_OUT = 360
"""Images held out: a fifth."""
SPLIT_SEED = 0
"""The split is part of the data set: it does not follow the seed of a run."""


def load_digits_images(context: int = 0) -> Dataset:
    """Images [samples, 1, 8, 8] in [0, 1] and their digits; `context` is ignored."""
    require_training_packages("sklearn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digest = hashlib.sha256(bunch.images.tobytes() + bunch.target.tobytes()).hexdigest()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    digits = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    train, held_out = order[:-HELD_OUT], order[-HELD_OUT:]
    return Dataset(
        description=f"scikit-learn load_digits, {len(train)} training and {HELD_OUT} held-out images, sha256 {digest}",
        classes=10,
        train_inputs=images[train],
        train_targets=digits[train],
        held_out_inputs=images[held_out],
        held_out_targets=digits[held_out],
    )
