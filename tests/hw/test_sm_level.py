"""The SM level as a whole: it meets each of its bounds, and names which one binds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpy.events import Event

from nmsim.arch.spec import GpuSpec, MmaSpec
from nmsim.hw.mainloop import MainloopTiming
from nmsim.hw.sm_level import SmMainloop, find_mma, share_of, simulate_mainloop
from nmsim.mapping.plan import MainloopKey
from tests.hw.machines import load_gpu

DENSE = MainloopKey("mma", "fp16", "dense", (128, 128, 32), (64, 64), 4, (16, 8, 16), (128 + 128) * 32 * 2)
SPARSE = MainloopKey("mma", "fp16", "2:4", (128, 128, 64), (64, 64), 4, (16, 8, 32), 128 * 32 * 2 + 128 * 8 + 128 * 64 * 2)


@pytest.fixture(scope="module")
def spec(ampere) -> GpuSpec:
    return load_gpu(ampere)


def changed(spec: GpuSpec, **blocks: dict[str, Any]) -> GpuSpec:
    """The machine with some values of some blocks replaced."""
    return spec.model_copy(update={name: getattr(spec, name).model_copy(update=values) for name, values in blocks.items()})


def cycles(timing: MainloopTiming, residents: int) -> float:
    numerator, denominator = timing.period[residents - 1]
    return numerator / denominator


@pytest.mark.parametrize("key", [DENSE, SPARSE])
def test_no_mainloop_is_faster_than_its_tensor_cores_and_a_second_cta_never_slows_the_first(spec: GpuSpec, key: MainloopKey) -> None:
    """64 MMAs a warp and k-tile, a warp a tensor core, 8 cycles each."""
    timing = simulate_mainloop(spec, key, 2)
    assert timing.busy_cycles[0] / timing.busy_cycles[1] == 64 * 8
    assert 512 <= cycles(timing, 2) <= cycles(timing, 1) + 1


def test_two_ctas_of_a_well_chosen_tile_keep_the_tensor_cores_nine_tenths_busy(spec: GpuSpec) -> None:
    assert cycles(simulate_mainloop(spec, DENSE, 2), 2) <= 512 / 0.9


@pytest.mark.parametrize(("k_tile", "stages"), [(32, 6), (64, 3)])
def test_one_cta_of_a_port_bound_tile_keeps_the_port_busy_because_its_copies_are_spread_over_the_k_steps(
    spec: GpuSpec, k_tile: int, stages: int
) -> None:
    """64x64 by four warps of 32x32: each k moves 4 x (32 + 32) x 2 B of fragments and (64 + 64) x 2 B of copies through 128 B a cycle."""
    key = MainloopKey("mma", "fp16", "dense", (64, 64, k_tile), (32, 32), stages, (16, 8, 16), 128 * k_tile * 2)
    port_cycles = (4 * 64 * 2 + 128 * 2) * k_tile / 128
    assert cycles(simulate_mainloop(spec, key, 1), 1) == pytest.approx(port_cycles, rel=0.02)


@given(total=st.integers(0, 1 << 20), parts=st.integers(1, 64))
def test_shares_differ_by_one_at_most_and_sum_to_the_whole(total: int, parts: int) -> None:
    shares = [share_of(total, part, parts) for part in range(parts)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_a_slow_decoder_sets_the_pace_of_a_sparse_mainloop_and_is_named(spec: GpuSpec) -> None:
    """256 codes an MMA at 16 a cycle: 16 cycles where the tensor core needs 8."""
    decoder = spec.tensor_core.decoder.model_copy(update={"codes_per_cycle": 16.0})
    timing = simulate_mainloop(changed(spec, tensor_core={"decoder": decoder}), SPARSE, 2)
    assert cycles(timing, 2) == pytest.approx(64 * 16, rel=0.02)
    assert timing.stall_share[1]["metadata"] > 0.9
    dense = simulate_mainloop(changed(spec, tensor_core={"decoder": decoder}), DENSE, 2)
    assert dense == simulate_mainloop(spec, DENSE, 2)


def test_tensor_cores_that_outrun_shared_memory_run_at_its_pace_and_it_is_named(spec: GpuSpec) -> None:
    """MMAs of one cycle: then 4 warps x 2 k-steps x 8 loads of 512 bytes and a copy of 16 KiB at 128 bytes a cycle bind.

    Two per cent: at the end of the window one CTA has left, and the other has the port to itself.
    """
    mma = tuple(one.model_copy(update={"issue_interval_cycles": 1.0}) for one in spec.tensor_core.mma)
    fast = changed(spec, tensor_core={"mma": mma, "register_read_bytes_per_cycle": 1e6})
    timing = simulate_mainloop(fast, DENSE, 2)
    port = (4 * 2 * 8 * 512 + DENSE.copy_bytes) / 128
    assert 0.98 * port <= cycles(timing, 2) <= 1.25 * port
    assert timing.stall_share[1]["shared_memory"] > 0.8


def test_a_starved_register_file_sets_the_pace_and_is_named(spec: GpuSpec) -> None:
    """An MMA reads 1280 bytes; at 80 a cycle that takes 16."""
    timing = simulate_mainloop(changed(spec, tensor_core={"register_read_bytes_per_cycle": 80.0}), DENSE, 2)
    assert cycles(timing, 2) == pytest.approx(64 * 16, rel=0.02)
    assert timing.stall_share[1]["register_file"] > 0.9


def test_stall_shares_sum_to_one(spec: GpuSpec) -> None:
    for share in simulate_mainloop(spec, DENSE, 2).stall_share:
        assert sum(share.values()) == pytest.approx(1)


def test_the_result_is_the_same_every_time(spec: GpuSpec) -> None:
    assert simulate_mainloop(spec, SPARSE, 2) == simulate_mainloop(spec, SPARSE, 2)


@pytest.mark.parametrize("arrivals", [(5, 9, 7, 1), (9, 5, 1, 7), (3, 3, 3, 3)])
def test_a_barrier_lets_all_warps_of_a_cta_go_on_in_the_cycle_of_the_last(spec: GpuSpec, arrivals: tuple[int, ...]) -> None:
    sm = SmMainloop(spec, DENSE, find_mma(spec, DENSE), 1)
    cta, passed = sm.ctas[0], []

    def warp(slot: int, arrival: int) -> Generator[Event, None, None]:
        for _ in range(2):
            yield sm._env.until(sm._env.tick + arrival, slot)
            yield from sm._barrier(cta)
            passed.append(sm._env.tick)

    for slot, arrival in enumerate(arrivals):
        sm._env.process(warp(slot, arrival))
    sm._env.run()
    assert passed == [max(arrivals)] * 4 + [2 * max(arrivals)] * 4


def with_decoder(spec: GpuSpec, **values: Any) -> GpuSpec:
    return changed(spec, tensor_core={"decoder": spec.tensor_core.decoder.model_copy(update=values)})


def test_a_mainloop_is_never_slower_for_a_faster_decoder(spec: GpuSpec) -> None:
    rates = (4.0, 8.0, 16.0, 24.0, 32.0, 64.0, 1e6)
    periods = [cycles(simulate_mainloop(with_decoder(spec, codes_per_cycle=rate), SPARSE, 2), 2) for rate in rates]
    assert periods == sorted(periods, reverse=True)
    assert periods[0] > 3.9 * periods[2] > 3.9 * periods[-1]


def test_a_code_for_a_whole_group_needs_a_decoder_of_half_the_rate(spec: GpuSpec) -> None:
    """2:4: two indices a group, or one bitmap; the metadata bytes are the same 4 bits."""
    index = simulate_mainloop(with_decoder(spec, codes_per_cycle=16.0), SPARSE, 2)
    assert simulate_mainloop(with_decoder(spec, codes_per_cycle=8.0, encoding="bitmap"), SPARSE, 2) == index


def test_a_narrow_selector_sets_the_pace_and_is_named(spec: GpuSpec) -> None:
    """2:4 through a selector of 2: two turns of 8 cycles."""
    timing = simulate_mainloop(with_decoder(spec, selector_width=2), SPARSE, 2)
    assert cycles(timing, 2) == pytest.approx(64 * 16, rel=0.02)
    assert timing.stall_share[1]["selector"] > 0.9
    assert simulate_mainloop(with_decoder(spec, selector_width=2), DENSE, 2) == simulate_mainloop(spec, DENSE, 2)


NAIVE = MainloopKey("mma", "bf16", "dense", (64, 64, 64), (32, 32), 2, (16, 8, 16), 128 * 64 * 2, fragments="reloaded")


@pytest.mark.parametrize(("layout", "passes"), [("swizzled", 1), ("permuted", 2), ("linear", 8)])
def test_reads_that_conflict_set_the_pace_of_a_kernel_without_register_blocking(spec: GpuSpec, layout: str, passes: int) -> None:
    """Per k-tile and warp 4 k-steps x 2 rows of (16 of A + 32 of B) x 32 bytes = 12 KiB: 384 cycles for four warps, and 128 of copies."""
    timing = simulate_mainloop(spec, replace(NAIVE, layout=layout), 4)
    port = 384 * passes + 128
    assert port <= cycles(timing, 4) * 1.01
    assert cycles(timing, 4) <= (1.03 if passes == 8 else 1.3) * port
    assert timing.shared_memory_bytes == 4 * 4 * 2 * 48 * 32 + NAIVE.copy_bytes


def test_a_padded_tile_is_as_fast_as_a_swizzled_one_and_takes_more_shared_memory(spec: GpuSpec) -> None:
    padded = replace(NAIVE, layout="padded")
    assert simulate_mainloop(spec, padded, 2).period == simulate_mainloop(spec, NAIVE, 2).period
    assert padded.stage_bytes == NAIVE.stage_bytes + 128 * 16


def test_a_synchronous_copy_passes_the_array_three_times_and_is_waited_for(spec: GpuSpec) -> None:
    """A line of L1, a register, shared memory: 2 x 128 cycles more of the port, and the latency of a load when one CTA is alone."""
    beside, through = (simulate_mainloop(spec, replace(NAIVE, layout="linear", copy=copy), 4) for copy in ("async", "sync"))
    assert through.shared_memory_bytes == beside.shared_memory_bytes + 2 * NAIVE.copy_bytes
    assert cycles(through, 4) - cycles(beside, 4) == pytest.approx(256, abs=64)
    assert cycles(through, 1) >= cycles(beside, 1) + 256


def test_one_stage_leaves_nothing_to_copy_beside(spec: GpuSpec) -> None:
    one = simulate_mainloop(spec, replace(NAIVE, stages=1), 3)
    two = simulate_mainloop(spec, NAIVE, 3)
    assert cycles(one, 1) > cycles(two, 1)
    assert one.shared_memory_bytes == two.shared_memory_bytes


def test_fragments_loaded_once_and_ahead_beat_fragments_loaded_when_needed(spec: GpuSpec) -> None:
    kept = simulate_mainloop(spec, replace(NAIVE, fragments="prefetched"), 4)
    assert cycles(kept, 4) < cycles(simulate_mainloop(spec, NAIVE, 4), 4)
    assert kept.shared_memory_bytes == 4 * 4 * 64 * 32 + NAIVE.copy_bytes


ONE_WARP = MainloopKey("mma", "fp16", "dense", (16, 8, 16), (16, 8), 2, (16, 8, 16), 768)
"""A: 512 bytes, 4 cycles of the port; B: 256 bytes, 2 cycles; one MMA a k-tile."""


def completions(spec: GpuSpec, key: MainloopKey) -> list[int]:
    sm = SmMainloop(spec, key, find_mma(spec, key), 1)
    sm.run()
    return sm.ctas[0].completed


@pytest.mark.parametrize("latency", [0, 1, 28, 29, 30, 100])
def test_one_warp_s_k_tiles_are_those_counted_by_hand(spec: GpuSpec, latency: int) -> None:
    """Loads pass the port by cycle 6, so that the first MMA starts at 6 + latency; the second's pass it by 12, behind them.

    Once an MMA has started, the fragments of the one after the next are asked for, and are there 6 + latency later; accumulators are
    there 25 after their start.
    """
    found = completions(changed(spec, shared_memory={"latency_cycles": latency}), ONE_WARP)
    starts, fragments = [6 + latency], [6 + latency, 12 + latency]
    for k_tile in range(1, len(found)):
        starts.append(max(starts[-1] + 25, fragments[k_tile]))
        fragments.append(starts[-2] + 6 + latency)
    assert found == [start + 8 for start in starts]


def test_one_stage_of_synchronous_copies_takes_the_cycles_counted_by_hand(spec: GpuSpec) -> None:
    """Fill and load of A and B pass the port by 12, are in registers at 41, stored by 47, loaded by 53 and there at 82."""
    found = completions(spec, replace(ONE_WARP, stages=1, copy="sync"))
    assert found == [82 + 8 + 82 * k_tile for k_tile in range(len(found))]
    assert completions(spec, replace(ONE_WARP, stages=1)) == [6 + 6 + 29 + 8 + (6 + 6 + 29) * k_tile for k_tile in range(len(found))]


DESIGNS = {
    "1:4": MainloopKey("mma", "fp16", "1:4", (128, 128, 64), (64, 64), 3, (16, 8, 64), 128 * 16 * 2 + 128 * 4 + 128 * 64 * 2),
    "2:8": MainloopKey("mma", "fp16", "2:8", (128, 128, 64), (64, 64), 3, (16, 8, 64), 128 * 16 * 2 + 128 * 6 + 128 * 64 * 2),
    "1:16": MainloopKey("mma", "fp16", "1:16", (64, 64, 256), (32, 32), 2, (16, 8, 256), 64 * 16 * 2 + 64 * 8 + 64 * 256 * 2),
}


def designed(spec: GpuSpec, key: MainloopKey, *, port_factor: int = 1, registers: float = 1e6, **decoder: Any) -> MainloopTiming:
    """A machine with an instruction for the pattern that executes as many MACs a cycle as the dense one, and nothing else in its way."""
    mma = MmaSpec(dtype="fp16", shape=key.mma_shape, pattern=key.pattern, issue_interval_cycles=8.0, latency_cycles=25)
    free = spec.tensor_core.decoder.model_copy(update={"codes_per_cycle": 1e6, "selector_width": None, "encoding": "index", **decoder})
    core = {"mma": (mma,), "decoder": free, "register_read_bytes_per_cycle": registers}
    memory = {"bank_bytes": spec.shared_memory.bank_bytes * port_factor}
    return simulate_mainloop(changed(spec, tensor_core=core, shared_memory=memory), key, 2)


@pytest.mark.parametrize("pattern", DESIGNS)
def test_a_design_for_another_pattern_shows_what_holds_it_back(spec: GpuSpec, pattern: str) -> None:
    """Operand B feeds M / N times the MACs that are executed: first the banks, then the register port; then decoder and selector."""
    key = DESIGNS[pattern]
    n, m = (int(side) for side in pattern.split(":"))

    def named(timing: MainloopTiming) -> str:
        return max(timing.stall_share[1], key=lambda name: timing.stall_share[1][name])

    delivered = designed(spec, key)
    assert named(delivered) == "shared_memory"
    assert cycles(delivered, 2) > 1.2 * delivered.busy_cycles[0] / delivered.busy_cycles[1]
    wide = designed(spec, key, port_factor=64)
    assert cycles(wide, 2) < cycles(delivered, 2)
    assert named(designed(spec, key, port_factor=64, registers=100.0)) == "register_file"
    kept = 16 * 16  # positions an instruction selects; a group holds n of them
    assert named(designed(spec, key, port_factor=64, codes_per_cycle=kept / 16)) == "metadata"
    assert named(designed(spec, key, port_factor=64, codes_per_cycle=kept / n / 16, encoding="bitmap")) == "metadata"
    assert named(designed(spec, key, port_factor=64, selector_width=m // 2)) == "selector"


def test_a_shorter_code_leaves_the_banks_more_room(spec: GpuSpec) -> None:
    """2:8: 6 bits a group as indices, 8 as a bitmap, 5 as a rank."""
    found = {encoding: designed(spec, DESIGNS["2:8"], encoding=encoding) for encoding in ("combinatorial", "index", "bitmap")}
    bytes_of_e = {encoding: timing.shared_memory_bytes for encoding, timing in found.items()}
    assert sorted(bytes_of_e, key=lambda encoding: bytes_of_e[encoding]) == ["combinatorial", "index", "bitmap"]
    assert cycles(found["combinatorial"], 2) <= cycles(found["index"], 2) <= cycles(found["bitmap"], 2)
