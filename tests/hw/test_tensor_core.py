"""A tensor core and what stands before it, cycle by cycle: issue interval, latency, register file, decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.arch.spec import DecoderSpec
from nmsim.hw.decoder import Decoder
from nmsim.hw.tensor_core import TensorCore
from nmsim.rules.stalls import Stall


def core(interval: float = 8.0, latency: int = 25, register: float = 1.0, decoder: Decoder | None = None) -> TensorCore:
    return TensorCore(interval, latency, register, decoder or Decoder(0, 1.0, 9))


def starts(pipe: TensorCore, mmas: int) -> list[int]:
    """Start cycles of independent MMAs, each asked for when the one before has started."""
    found = [0]
    for _ in range(mmas):
        found.append(pipe.issue(found[-1], 0, 0, 0)[0])
    return found[1:]


def test_independent_mmas_start_an_issue_interval_apart() -> None:
    assert starts(core(8), 4) == [0, 8, 16, 24]


@pytest.mark.parametrize("interval", [6.35, 4.5, 8 / 3])
def test_an_interval_that_is_no_whole_number_holds_over_a_run(interval: float) -> None:
    pipe = core(interval)
    assert starts(pipe, 1001)[-1] == int(1000 * interval + 1e-3)
    assert pipe.busy_cycles == pipe.free_at == int(1001 * interval + 1e-3)


@pytest.mark.parametrize(("asked", "start"), [(24, 25), (25, 25), (26, 26)])
def test_a_dependent_mma_starts_when_its_accumulator_is_ready_and_not_a_cycle_before(asked: int, start: int) -> None:
    pipe = core(8, latency=25)
    _, accumulator = pipe.issue(0, 0, 0, 0)
    assert accumulator == 25
    assert pipe.issue(asked, 0, 0, accumulator) == (start, start + 25)
    assert pipe.idle[Stall.MATH_LATENCY] == start - 8


@pytest.mark.parametrize(("fragments", "start"), [(39, 40), (40, 40), (41, 41)])
def test_an_mma_waits_for_its_fragments_and_the_port_is_blamed_for_what_queued(fragments: int, start: int) -> None:
    pipe = core()
    pipe.issue(0, 0, 0, 0)
    assert pipe.issue(40, fragments, 10, 0)[0] == start
    idle = start - 8
    blamed = min(idle, 10) if fragments >= 40 else 0
    assert (pipe.idle[Stall.SHARED_MEMORY], pipe.idle[Stall.MATH_LATENCY]) == (blamed, idle - blamed)


def test_the_register_file_paces_mmas_that_read_more_than_it_gives() -> None:
    pipe = core(interval=4, register=10.0)
    assert starts(pipe, 5) == [0, 10, 20, 30, 40]
    assert pipe.idle[Stall.REGISTER_FILE] == 4 * 6


def test_a_decoder_that_keeps_up_is_never_in_the_way_and_one_that_does_not_sets_the_pace() -> None:
    fast, slow = core(8, decoder=Decoder(256, 32.0, 0)), core(8, decoder=Decoder(256, 16.0, 0))
    assert starts(fast, 6) == [8, 16, 24, 32, 40, 48]  # the first MMA has nobody to decode ahead of it
    assert starts(slow, 6) == [16, 32, 48, 64, 80, 96]
    assert slow.idle[Stall.METADATA] == 16 + 5 * 8
    assert fast.idle[Stall.METADATA] == 8


def test_decoding_runs_ahead_by_one_mma() -> None:
    """Codes of an MMA asked for at 100 are begun at 0, when the one before was asked for: they stand at 16."""
    decoder = Decoder(256, 16.0, 0)
    assert [decoder.decode(0), decoder.decode(100), decoder.decode(101), decoder.decode(200)] == [16, 32, 116, 132]


def test_a_code_rate_that_is_no_whole_number_of_cycles_is_carried() -> None:
    decoder = Decoder(100, 64.0, 0)
    assert [decoder.decode(0) for _ in range(16)][-1] == 25


def test_the_selector_s_latency_lengthens_a_sparse_mma_and_leaves_a_dense_one_alone() -> None:
    assert core(decoder=Decoder(256, 1e6, 9)).issue(0, 0, 0, 0) == (0, 25 + 9)
    assert core(decoder=Decoder(0, 1e6, 9)).issue(0, 0, 0, 0) == (0, 25)


@pytest.mark.parametrize(("group", "width", "turns"), [(4, 4, 1), (16, 4, 4), (5, 4, 2), (64, None, 1), (2, 8, 1)])
def test_a_group_wider_than_the_selector_takes_its_turns_and_that_is_named(group: int, width: int | None, turns: int) -> None:
    assert DecoderSpec(codes_per_cycle=64, selector_width=width, latency_cycles=0).selector_turns(group) == turns
    pipe = TensorCore(6.5, 25, 1.0, Decoder(16, 1e6, 0), turns)
    assert starts(pipe, 9)[-1] == int(8 * turns * 6.5)
    assert sum(pipe.idle) == pipe.idle[Stall.SELECTOR] == (0 if turns == 1 else pipe.free_at - pipe.busy_cycles)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 90), st.integers(0, 40), st.integers(0, 90)), max_size=40), st.floats(1, 12))
def test_busy_and_idle_cycles_are_all_cycles(asked: list[tuple[int, int, int, int]], interval: float) -> None:
    pipe, now = core(interval, register=3.5, decoder=Decoder(64, 20.0, 2)), 0
    for step, fragments, waited, accumulator in asked:
        now += step
        start, _ = pipe.issue(now, now + fragments - 40, waited, now + accumulator - 40)
        assert start >= now
        assert pipe.busy_cycles + sum(pipe.idle) == pipe.free_at
    assert min(pipe.idle, default=0) >= 0
