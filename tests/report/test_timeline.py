"""The file of a timeline: slices that nest as Perfetto reads them, counters in time, bounded, the same bytes twice, and the truth."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nmsim.api import TimelineWindow, gemm_timeline, load_arch, simulate_gemm
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError
from nmsim.report.timeline import chrome_trace, write_timeline
from nmsim.result.timeline import KernelTimeline
from nmsim.units import TICKS_PER_CYCLE

SHAPE: dict[str, Any] = {"m": 512, "n": 640, "k": 512, "pattern": "2:4"}


@pytest.fixture(scope="module")
def timeline(ampere: Path) -> KernelTimeline:
    return gemm_timeline(ampere, **SHAPE, window=TimelineWindow(sms=(0, 3)))


def slices_by_track(trace: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            found.setdefault((event["pid"], event["tid"]), []).append(event)
    return found


def track_names(trace: dict[str, Any]) -> dict[tuple[int, int], tuple[str, str]]:
    events = trace["traceEvents"]
    groups = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    return {(e["pid"], e["tid"]): (groups[e["pid"]], e["args"]["name"]) for e in events if e["name"] == "thread_name"}


def nanoseconds(microseconds: float) -> int:
    """As Perfetto does."""
    return round(microseconds * 1000)


def test_the_record_takes_as_long_as_the_gemm(timeline: KernelTimeline, ampere: Path) -> None:
    result = simulate_gemm(ampere, **SHAPE)
    assert timeline.total_ticks == round(result.cycles * TICKS_PER_CYCLE)
    assert timeline.facts["clock_mhz"] == str(result.clock_mhz)


def test_slices_of_every_track_nest(timeline: KernelTimeline) -> None:
    for slices in slices_by_track(chrome_trace([timeline, timeline])).values():
        assert all(one["ts"] <= other["ts"] for one, other in pairwise(slices))
        ends: list[int] = []
        for one in slices:
            start, end = nanoseconds(one["ts"]), nanoseconds(one["ts"]) + nanoseconds(one["dur"])
            while ends and ends[-1] <= start:
                ends.pop()
            assert not ends or end <= ends[-1]
            ends.append(end)


def test_counters_ascend_in_time_and_end_at_zero(timeline: KernelTimeline) -> None:
    counters: dict[str, list[dict[str, Any]]] = {}
    for event in chrome_trace([timeline])["traceEvents"]:
        if event["ph"] == "C":
            counters.setdefault(event["name"], []).append(event)
    assert set(counters) == {
        "busy tensor pipes (pipes)",
        "L2 reads (GB/s)",
        "L2 writes (GB/s)",
        "DRAM reads (GB/s)",
        "DRAM writes (GB/s)",
        "L2 reads in flight (requests)",
        "DRAM accesses in flight (requests)",
    }
    for events in counters.values():
        assert all(one["ts"] < other["ts"] for one, other in pairwise(events))
        assert all(value >= 0 for event in events for value in event["args"].values())
        assert list(events[-1]["args"].values()) == [0.0]
        assert len(events) <= 1001


def test_no_bandwidth_passes_its_peak(timeline: KernelTimeline, ampere: Path) -> None:
    spec = load_arch(ampere)
    assert isinstance(spec, GpuSpec)
    dram = [counter for counter in timeline.counters if counter.name.startswith("DRAM") and counter.unit == "GB/s"]
    assert all(
        reads + writes <= 1.001 * spec.dram.bandwidth_gb_per_s for reads, writes in zip(*(counter.values for counter in dram), strict=True)
    )
    pipes = next(counter for counter in timeline.counters if counter.unit == "pipes")
    assert 0 < max(pipes.values) <= spec.sm.count


def test_a_track_for_every_watched_sm_partition_and_channel(timeline: KernelTimeline) -> None:
    trace = chrome_trace([timeline])
    names = set(track_names(trace).values())
    assert {("SM 0", "tensor pipe"), ("SM 3", "stalls"), ("L2", "partition 1"), ("DRAM", "channel 39"), ("SM 0", "CTA slot 0")} <= names
    assert not any(group == "SM 1" for group, _ in names)
    found = {track_names(trace)[track]: {event["name"] for event in events} for track, events in slices_by_track(trace).items()}
    assert found["SM 0", "tensor pipe"] == {"k-tile"}
    assert {"launch", "mainloop", "epilogue"} < found["SM 0", "CTA slot 0"]
    assert {"cta_launch", "fill_drain"} < found["SM 0", "stalls"]


def test_the_ticks_of_a_pipe_and_its_stalls_are_the_kernels(timeline: KernelTimeline) -> None:
    ticks = {track: sum(one.end_ticks - one.start_ticks for one in slices) for track, slices in timeline.tracks.items()}
    for sm in (0, 3):
        last_cta = timeline.total_ticks  # of a kernel whose DRAM outlasts its last CTA, the pipes' account is shorter
        assert 0 < ticks[f"SM {sm}", "tensor pipe"] < ticks[f"SM {sm}", "tensor pipe"] + ticks[f"SM {sm}", "stalls"] <= last_cta


def test_a_window_bounds_what_is_written(ampere: Path, timeline: KernelTimeline) -> None:
    part = gemm_timeline(ampere, **SHAPE, window=TimelineWindow(sms=(0,), first_cycle=2000, end_cycle=3000))
    trace = chrome_trace([part])
    timed = [event for event in trace["traceEvents"] if event["ph"] != "M"]
    assert all(2.0 <= event["ts"] <= 3.0 and event["ts"] + event.get("dur", 0) <= 3.0 + 1e-9 for event in timed)
    assert part.total_ticks == timeline.total_ticks
    assert sum(map(len, part.tracks.values())) < sum(map(len, timeline.tracks.values())) / 2


def test_too_many_slices_are_cut_with_a_word(ampere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmsim.run.timeline.MOST_SLICES", 200)
    cut = gemm_timeline(ampere, **SHAPE, window=TimelineWindow(sms=(0,)))
    assert cut.is_cut
    assert sum(map(len, cut.tracks.values())) <= 200
    kernel = slices_by_track(chrome_trace([cut]))[1, 1][0]
    assert kernel["args"]["cut"].startswith("recorded up to cycle")
    assert nanoseconds(kernel["dur"]) == cut.end_ticks // TICKS_PER_CYCLE


def test_several_kernels_follow_one_another(timeline: KernelTimeline) -> None:
    kernels = slices_by_track(chrome_trace([timeline, timeline]))[1, 1]
    assert nanoseconds(kernels[1]["ts"]) >= nanoseconds(kernels[0]["ts"]) + nanoseconds(kernels[0]["dur"])


def test_the_file_is_json_in_gzip_and_the_same_twice(timeline: KernelTimeline, tmp_path: Path) -> None:
    first, second, plain = (tmp_path / name for name in ("a.json.gz", "b.json.gz", "c.json"))
    for file in (first, second, plain):
        write_timeline([timeline], file)
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(gzip.decompress(first.read_bytes())) == json.loads(plain.read_text()) == chrome_trace([timeline])


def test_what_cannot_be_recorded_is_said_in_one_sentence(ampere: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--sm: .* has SMs 0 to 107, got 400"):
        gemm_timeline(ampere, **SHAPE, window=TimelineWindow(sms=(400,)))
    with pytest.raises(InputError, match=r"--cycles: gemm ends after .* cycles, got 10000000; start before cycle"):
        gemm_timeline(ampere, **SHAPE, window=TimelineWindow(first_cycle=10_000_000))
    with pytest.raises(InputError, match=r"name it NAME\.json\.gz"):
        write_timeline([], tmp_path / "timeline.txt")
    with pytest.raises(InputError, match="there is no such folder"):
        write_timeline([], tmp_path / "nowhere" / "t.json.gz")
