"""Stripe-group search: of every few groups of channels, try all ways to share their channels out, and take the best.

NVIDIA apex's `optimize_stripe_groups` (a stripe is a group of M columns): with two stripes of four that is 35 ways, with three
5,775. The improvements are made in falling order, skipping stripes that changed already; then the stripe groups that hold a
changed stripe are tried anew, until none improves. An escape moves a few random channels and goes on; the best order seen wins.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.channel_swap import LEAST_GAIN
from nmsim.sparsity.pattern import NMPattern
from nmsim.sparsity.permutation import Order, channel_magnitudes, require_generator

_MAX_GROUPINGS = 20_000


def search_stripe_groups(
    weights: NDArray[Any], pattern: NMPattern, stripes: int = 2, *, escapes: int = 0, rng: np.random.Generator | None = None
) -> Order:
    """A better order of the channels of `weights` [rows, C]: no `stripes` groups of M could share their channels out better.

    Channels beyond the last whole group stay where they are. The work grows as (C / M) ** stripes. InputError for what is no
    finite real matrix, escapes without a generator, and for more ways to share out than can be tried.
    """
    sizes, chance = channel_magnitudes(weights), require_generator(escapes, rng)
    if stripes < 2:
        raise InputError("channels are shared out among two or more stripes", path="stripes", value=stripes)
    order: Order = np.arange(sizes.shape[1])
    stripes = min(stripes, sizes.shape[1] // pattern.m)
    if stripes < 2 or pattern.n == pattern.m:
        return order
    search = _StripeSearch(sizes, pattern, stripes)
    best, best_order = search.kept(), search.order.copy()
    while True:
        while search.make_best_changes():
            pass
        if search.kept() > best:
            best, best_order = search.kept(), search.order.copy()
        if escapes == 0:
            return best_order
        escapes -= 1
        search.pass_channels_round(chance)


def count_groupings(channels: int, m: int) -> int:
    """Distinct ways to share `channels` out in groups of M: C! / (M! ** (C / M) (C / M)!); InputError unless M divides C."""
    if channels < 1 or channels % m:
        raise InputError(f"channels are shared out in whole groups of {m}", path="channels", value=channels)
    groups = channels // m
    count: int = factorial(channels) // (factorial(m) ** groups * factorial(groups))
    return count


@cache
def groupings(channels: int, m: int) -> NDArray[np.int64]:
    """Every distinct grouping, [groupings, groups, M]: members rise within a group, groups by their first member."""
    if count_groupings(channels, m) > _MAX_GROUPINGS:
        raise InputError(
            f"{count_groupings(channels, m):,} ways to share {channels} channels out in groups of {m} can't all be tried",
            path="stripes",
            fix="take fewer stripes, or channel swaps",
        )
    found = np.array(_share_out(tuple(range(channels)), m), dtype=np.int64)
    found.flags.writeable = False
    return found


def _share_out(left: tuple[int, ...], m: int) -> list[list[list[int]]]:
    if not left:
        return [[]]
    first, rest = left[0], left[1:]
    return [
        [[first, *others], *following]
        for others in combinations(rest, m - 1)
        for following in _share_out(tuple(channel for channel in rest if channel not in others), m)
    ]


class _StripeSearch:
    """The order so far, and the best way to share out the channels of every few stripes."""

    def __init__(self, sizes: NDArray[np.float64], pattern: NMPattern, stripes: int) -> None:
        self.pattern = pattern
        self.channels = np.ascontiguousarray(sizes.T)
        self.order: Order = np.arange(sizes.shape[1])
        self.least_gain = LEAST_GAIN * float(sizes.sum())
        self.stripes = sizes.shape[1] // pattern.m
        self.ways = groupings(stripes * pattern.m, pattern.m)
        self.subsets = np.array(list(combinations(range(stripes * pattern.m), pattern.m)))
        places = {tuple(subset): place for place, subset in enumerate(self.subsets.tolist())}
        self.way_subsets = np.array([[places[tuple(group)] for group in way] for way in self.ways.tolist()])
        self.members = np.array(list(combinations(range(self.stripes), stripes)))
        self.gain = np.zeros(len(self.members))
        self.best_way = np.zeros(len(self.members), dtype=np.int64)
        self._try_all(np.arange(len(self.members)))

    def kept(self) -> float:
        """Magnitude kept in all whole groups."""
        grouped = self.order[: self.stripes * self.pattern.m].reshape(self.stripes, self.pattern.m)
        return float(self._subsets_keep(self.channels, grouped).sum())

    def make_best_changes(self) -> bool:
        """Shares out anew in falling order of gain, each stripe once; False where nothing gains."""
        changed: set[int] = set()
        for candidate in np.argsort(-self.gain, kind="stable"):
            if self.gain[candidate] <= self.least_gain:
                break
            stripes = self.members[candidate]
            if changed.isdisjoint(stripes.tolist()):
                places = self._places(stripes)
                way = self.ways[self.best_way[candidate]]
                self.order[places] = self.order[places][way.ravel()]
                unmoved = np.arange(way.size).reshape(way.shape)
                changed.update(stripes[(way != unmoved).any(axis=1)].tolist())
        self._try_again(sorted(changed))
        return bool(changed)

    def pass_channels_round(self, rng: np.random.Generator) -> None:
        """Passes one random channel of each of some random stripes on to the next: one more than are shared out at once.

        An exchange within one stripe group would be undone by the next look at that group.
        """
        count = min(self.members.shape[1] + 1, self.stripes)
        stripes = rng.choice(self.stripes, count, replace=False)
        places = stripes * self.pattern.m + rng.integers(self.pattern.m, size=count)
        self.order[places] = self.order[np.roll(places, 1)]
        self._try_again(stripes.tolist())

    def _try_again(self, changed: list[int]) -> None:
        self._try_all(np.flatnonzero(np.isin(self.members, changed).any(axis=1)))

    def _try_all(self, candidates: NDArray[np.int64]) -> None:
        for candidate in candidates:
            channels = self.channels[self.order[self._places(self.members[candidate])]]
            kept = self._subsets_keep(channels, self.subsets)[self.way_subsets].sum(axis=1)
            self.best_way[candidate] = kept.argmax()
            # The first way leaves every channel in its stripe.
            self.gain[candidate] = kept.max() - kept[0]

    def _places(self, stripes: NDArray[np.int64]) -> NDArray[np.int64]:
        places: NDArray[np.int64] = (stripes[:, np.newaxis] * self.pattern.m + np.arange(self.pattern.m)).ravel()
        return places

    def _subsets_keep(self, channels: NDArray[np.float64], subsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Magnitude that N of M keep of each subset [subsets, M] of `channels` [channels, rows], summed over rows."""
        largest: list[NDArray[np.float64]] = []
        # Insertion, lane by lane, into the N largest so far: no sort of a few elements at a time.
        for lane in range(self.pattern.m):
            rest = channels[subsets[:, lane]]
            for place, present in enumerate(largest):
                largest[place], rest = np.maximum(present, rest), np.minimum(present, rest)
            if len(largest) < self.pattern.n:
                largest.append(rest)
        kept: NDArray[np.float64] = np.sum(largest, axis=(0, 2))
        return kept
