"""What one launch leaves in the L2 and the next one finds: alike in both engines, nothing lost, nothing found that was not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmsim.hw.chip_compiled import run_compiled, run_compiled_after
from nmsim.hw.chip_events import run_events_after
from nmsim.hw.contents import BLOCK, DIRTY, Contents, block_bytes, bring_forward
from nmsim.mapping.plan import KernelPlan
from nmsim.rules import box
from tests.hw.chip_cases import MEDIUM, Case, Draw, Kernel, Linear, kernels, timings
from tests.hw.machines import machine

RELAXED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
ROLES = (("X", "W", "Y"), ("dY", "W", "dX"), ("dY", "X", "dW"))
"""Tensors A, B and D of the three products of a layer."""


@st.composite
def layers(draw: Draw) -> list[Case]:
    """A few products of one small layer on one machine, in any order, each with a tile of its own."""
    timing = replace(draw(timings(MEDIUM)), ideal_memory=0)
    tokens, inputs, outputs = (draw(st.integers(1, 96)) for _ in range(3))
    phases = draw(st.lists(st.integers(0, 2), min_size=2, max_size=4))
    of_a_block = draw(st.sampled_from((1024, 2048, 4096)))  # the machine's, whatever the kernel
    tiles = [replace(draw(kernels(MEDIUM)), block_bytes=of_a_block) for _ in phases]
    return [Case(timing, kernel, Linear(phase, tokens, inputs, outputs), warm=False) for phase, kernel in zip(phases, tiles, strict=True)]


def names_of(case: Case) -> tuple[str, ...]:
    assert isinstance(case.product, Linear)
    return ROLES[case.product.phase]


@settings(max_examples=40, deadline=None, database=None, print_blob=True, suppress_health_check=RELAXED)
@given(layers())
def test_both_engines_find_and_leave_the_same_launch_after_launch(cases: list[Case]) -> None:
    events: Contents | None = None
    compiled: Contents | None = None
    for case in cases:
        simpy_outcome, events = run_events_after(case.timing, case.plan, case.mainloop, names_of(case), events)
        outcome, compiled = run_compiled_after(case.timing, case.plan, case.mainloop, names_of(case), compiled)
        assert simpy_outcome.equals(outcome)
        assert events.names == compiled.names
        assert all((here == there).all() for here, there in zip(events.held, compiled.held, strict=True))


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=RELAXED)
@given(layers())
def test_a_launch_on_what_it_left_itself_is_a_warm_one(cases: list[Case]) -> None:
    case = cases[0]
    _, left = run_compiled_after(case.timing, case.plan, case.mainloop, names_of(case), None)
    again, _ = run_compiled_after(case.timing, case.plan, case.mainloop, names_of(case), left)
    assert again.equals(run_compiled(case.timing, case.plan, case.mainloop, warm=True))


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=RELAXED)
@given(layers())
def test_among_strangers_nothing_is_found_and_every_dirty_byte_is_held_or_written_back(cases: list[Case]) -> None:
    """With no tensor in common a launch fetches every block it reads at least once, and what was dirty before and after accounts for all
    written. (Not: no less than a cold one. Where the L2 is small, other writes to drain change the order, and with it what is evicted.)
    """
    before: Contents | None = None
    for number, case in enumerate(cases):
        names = [(number, name) for name in names_of(case)]
        outcome, after = run_compiled_after(case.timing, case.plan, case.mainloop, names, before)
        if before is not None:
            assert outcome.fetched_bytes >= operand_bytes(case.plan, case)
            if roomy(case, before):
                cold, _ = run_compiled_after(case.timing, case.plan, case.mainloop, names, None)
                assert outcome.fetched_bytes == cold.fetched_bytes
                written = dirty(after, case) - dirty(before, case)
                assert written == output_bytes(case.plan, case)
                assert outcome.written_back_bytes == 0
        before = after


def roomy(case: Case, before: Contents) -> bool:
    """Whether all that is held and all that is touched fits each partition, copies included."""
    touched = block_bytes(case.plan.tensors, np.arange(case.plan.blocks), case.timing.interleave_shift).sum()
    held = sum(block_bytes(before.tensors, part[:, BLOCK], case.timing.interleave_shift).sum() for part in before.held)
    return bool(touched + held <= case.timing.l2_capacity)


def dirty(contents: Contents, case: Case) -> int:
    marked = [part[part[:, DIRTY] == 1, BLOCK] for part in contents.held]
    return int(sum(block_bytes(contents.tensors, blocks, case.timing.interleave_shift).sum() for blocks in marked))


def operand_bytes(plan: KernelPlan, case: Case) -> int:
    """All blocks of tensors A and B, each of which some CTA reads."""
    first_output = int(plan.tensors[-1, box.FIRST_BLOCK])
    return int(block_bytes(plan.tensors, np.arange(first_output), case.timing.interleave_shift).sum())


def output_bytes(plan: KernelPlan, case: Case) -> int:
    """All blocks of tensor D, the last of the three."""
    first = int(plan.tensors[-1, box.FIRST_BLOCK])
    return int(block_bytes(plan.tensors, np.arange(first, plan.blocks), case.timing.interleave_shift).sum())


@settings(max_examples=40, deadline=None)
@given(layers())
def test_the_bytes_of_blocks_are_those_that_dram_serves(cases: list[Case]) -> None:
    plan, shift = cases[0].plan, cases[0].timing.interleave_shift
    expected = []
    for t in plan.tensors.tolist():
        rows = -(-t[box.ROW_COUNT] >> t[box.ROW_SHIFT])
        expected += [box.block_chunks(t, row, column, shift)[4] for row in range(rows) for column in range(t[box.BLOCK_COLUMNS])]
    assert block_bytes(plan.tensors, np.arange(plan.blocks), shift).tolist() == expected
    assert sum(expected) == (plan.tensors[:, box.ROW_COUNT] * plan.tensors[:, box.PITCH]).sum()


@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
@given(layers())
def test_bringing_contents_forward_keeps_each_block_of_each_tensor_once_and_in_order(cases: list[Case]) -> None:
    first, second = cases[0], cases[1]
    _, before = run_compiled_after(first.timing, first.plan, first.mainloop, names_of(first), None)
    plan, after = bring_forward(second.plan, names_of(second), before)
    assert (plan.tensors[: len(second.plan.tensors)] == second.plan.tensors).all()
    assert (np.diff(plan.tensors[:, box.FIRST_BLOCK]) >= 0).all()
    assert sorted(located(before)) == sorted(located(after))
    for name in set(before.names):
        for part in after.held:  # of each tensor, the order of use is that of before
            order = [entry for entry in located_in(after, part) if entry[0] == name]
            assert any(is_part_of(order, [one for one in located_in(before, old) if one[0] == name]) for old in before.held)


def located(contents: Contents) -> list[tuple[str, int, int]]:
    return [entry for part in contents.held for entry in located_in(contents, part)]


def located_in(contents: Contents, part: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> list[tuple[str, int, int]]:
    """(tensor, block within it, dirty) of what a partition holds."""
    firsts = contents.tensors[:, box.FIRST_BLOCK]
    owners = np.searchsorted(firsts, part[:, BLOCK], side="right") - 1
    return [
        (str(contents.names[owner]), int(block - firsts[owner]), int(mark))
        for owner, (block, mark) in zip(owners.tolist(), part, strict=True)
    ]


def is_part_of(some: list[tuple[str, int, int]], all_of: list[tuple[str, int, int]]) -> bool:
    return some == [one for one in all_of if one in some] or not some


def test_strangers_go_before_what_was_used_after_them_and_pay_when_dirty() -> None:
    """Three launches on an L2 that holds two of their outputs: the oldest output has left for DRAM, the younger is still held."""
    case = small_case(tokens=32, inputs=16, outputs=32)
    size = output_bytes(case.plan, case)
    timing = replace(case.timing, l2_capacity=2 * size + 3 * 1024, partition_mask=0, l2_copies=0)
    before: Contents | None = None
    for number in range(3):
        outcome, before = run_compiled_after(timing, case.plan, case.mainloop, [(number, name) for name in "ABD"], before)
    assert before is not None
    assert outcome.written_back_bytes >= size - 3 * 1024
    still_dirty = {name for name, _, mark in located(before) if mark}
    assert "(2, 'D')" in still_dirty
    assert "(0, 'D')" not in still_dirty


def small_case(tokens: int, inputs: int, outputs: int) -> Case:
    kernel = Kernel((8, 8, 16), 2, 1, 1, 1024, (1 << 16,), 10, 10)
    return Case(machine(), kernel, Linear(0, tokens, inputs, outputs), warm=False)


@pytest.mark.parametrize("name", ["X", "another"])
def test_a_tensor_is_found_by_its_name(name: str) -> None:
    """The forward product leaves X; backward_weight reads it from the L2 where it calls it X, and from DRAM where it does not."""
    forward = small_case(64, 32, 32)
    backward = Case(forward.timing, forward.kernel, Linear(2, 64, 32, 32), warm=False)
    timing = replace(forward.timing, l2_capacity=1 << 20)
    _, left = run_compiled_after(timing, forward.plan, forward.mainloop, ROLES[0], None)
    outcome, _ = run_compiled_after(timing, backward.plan, backward.mainloop, ("dY", name, "dW"), left)
    x_bytes, dy_bytes = 64 * 32 * 2, 64 * 32 * 2
    assert outcome.fetched_bytes == dy_bytes + (0 if name == "X" else x_bytes)
