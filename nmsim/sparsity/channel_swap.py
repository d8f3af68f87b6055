"""Greedy channel swaps: exchange the two channels of different groups whose exchange keeps the most, until none does.

NVIDIA apex's `channel_swap`: the gain of every exchange is known; they are made in falling order, skipping groups that an earlier
one touched; then the gains of the touched groups are found anew. From the local optimum, an escape makes a random exchange,
whatever it costs, and goes on from there; the best order seen is the answer.

A gain is cheap. Of a group without one of its channels only the N-th largest magnitude of each row matters: a channel x put in
its place adds max(x, N-th largest) to the row, on top of the N - 1 largest. So one channel in one place costs a comparison a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.permutation import Order, channel_magnitudes, require_generator

LEAST_GAIN = 1e-8
"""Share of the magnitude that an exchange must win: less can be rounding, and rounding could go round in circles."""

_BLOCK_ELEMENTS = 1 << 16
"""Elements compared at a time: small enough for the temporaries to stay in a core's own cache."""


def swap_channels(weights: NDArray[Any], pattern: NMPattern, *, escapes: int = 0, rng: np.random.Generator | None = None) -> Order:
    """A better order of the channels of `weights` [rows, C], found by exchanges; never worse than the present one.

    Channels beyond the last whole group stay where they are. InputError for what is no finite real matrix, or escapes without
    a generator.
    """
    sizes, chance = channel_magnitudes(weights), require_generator(escapes, rng)
    if sizes.shape[1] < 2 * pattern.m or pattern.n == pattern.m:
        return np.arange(sizes.shape[1])
    state = _Swaps(sizes, pattern)
    best, best_order = state.kept(), state.order.copy()
    while True:
        while state.make_best_swaps():
            pass
        if state.kept() > best:
            best, best_order = state.kept(), state.order.copy()
        if escapes == 0:
            return best_order
        escapes -= 1
        state.make_random_swap(chance)


class _Swaps:
    """The order so far and what every channel would be worth in every place."""

    def __init__(self, sizes: NDArray[np.float64], pattern: NMPattern) -> None:
        self.pattern = pattern
        self.groups = sizes.shape[1] // pattern.m
        self.places = self.groups * pattern.m
        self.channels = np.ascontiguousarray(sizes.T)
        self.order: Order = np.arange(sizes.shape[1])
        self.least_gain = LEAST_GAIN * float(sizes.sum())
        self.group_kept = np.zeros(self.groups)
        self.worth = np.zeros((self.places, self.places))
        """What the group of a place would keep if the place held a channel, [places, channels]."""
        self._find_worth(range(self.groups))

    def kept(self) -> float:
        """Magnitude kept in all whole groups."""
        return float(self.group_kept.sum())

    def make_best_swaps(self) -> bool:
        """Exchanges in falling order of gain, each group once; False where none gains."""
        group_of = np.arange(self.places) // self.pattern.m
        in_place = self.worth[:, self.order[: self.places]]
        gains = in_place + in_place.T - self.group_kept[group_of][:, np.newaxis] - self.group_kept[group_of]
        gains[group_of[:, np.newaxis] >= group_of] = -np.inf
        first, second = np.nonzero(gains > self.least_gain)
        touched: set[int] = set()
        for candidate in np.argsort(-gains[first, second], kind="stable"):
            pair = int(first[candidate]), int(second[candidate])
            groups = {int(group_of[place]) for place in pair}
            if touched.isdisjoint(groups):
                self.order[list(pair)] = self.order[list(pair[::-1])]
                touched |= groups
        self._find_worth(sorted(touched))
        return bool(touched)

    def make_random_swap(self, rng: np.random.Generator) -> None:
        """Exchanges one random channel of each of two random groups."""
        groups = rng.choice(self.groups, 2, replace=False)
        pair = groups * self.pattern.m + rng.integers(self.pattern.m, size=2)
        self.order[pair] = self.order[pair[::-1]]
        self._find_worth(groups.tolist())

    def _find_worth(self, groups: Any) -> None:
        m, n = self.pattern.m, self.pattern.n
        candidates = self.channels[: self.places]
        step = max(1, _BLOCK_ELEMENTS // max(1, candidates.shape[1]))
        for group in groups:
            members = self.channels[self.order[group * m : (group + 1) * m]]
            self.group_kept[group] = np.sort(members, axis=0)[m - n :].sum()
            for lane in range(m):
                others = np.sort(np.delete(members, lane, axis=0), axis=0)[::-1]
                sure, threshold = others[: n - 1].sum(), others[n - 1]
                row = self.worth[group * m + lane]
                for start in range(0, self.places, step):
                    part = slice(start, start + step)
                    row[part] = sure + np.maximum(candidates[part], threshold).sum(axis=1)
