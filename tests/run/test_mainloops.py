"""SM-level results are simulated once: the cache on disk is keyed by what they read, and survives damage."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmsim.arch.load import load_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.hw.stream_level import stream_timing
from nmsim.mapping.candidates import best_mma, mainloop_key
from nmsim.mapping.lower import lower_dense
from nmsim.mapping.plan import MainloopKey
from nmsim.run import mainloops
from nmsim.run.mainloops import mainloop_timing
from nmsim.run.single import what_if_gemm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder; nothing is remembered from other tests, nor kept for them."""
    monkeypatch.setenv("NMSIM_CACHE_DIR", str(tmp_path))
    mainloops._timing.cache_clear()
    yield tmp_path
    mainloops._timing.cache_clear()


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[MainloopKey]:
    """The mainloops that were simulated, not found."""
    seen: list[MainloopKey] = []
    simulate = mainloops._simulate

    def spy(spec: GpuSpec, key: MainloopKey, occupancy: int) -> object:
        seen.append(key)
        return simulate(spec, key, occupancy)

    monkeypatch.setattr(mainloops, "_simulate", spy)
    return seen


@pytest.fixture(scope="module")
def key(spec: GpuSpec) -> MainloopKey:
    mma = best_mma(spec, "fp16", "dense")
    assert mma is not None
    return mainloop_key(spec.kernels.tiles[-1], lower_dense(what_if_gemm(64, 64, 64, 1, "fp16", "fp16")), mma)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("mainloops/*.json"))


def forget() -> None:
    mainloops._timing.cache_clear()


def test_a_mainloop_is_simulated_once_and_found_afterwards(
    folder: Path, simulated: list[MainloopKey], key: MainloopKey, spec: GpuSpec
) -> None:
    first = mainloop_timing(spec, key, 2)
    assert mainloop_timing(spec, key, 2) == first
    forget()
    assert mainloop_timing(spec, key, 2) == first
    assert simulated == [key]
    assert len(files(folder)) == 1


def test_what_the_sm_does_not_read_keeps_its_results_and_what_it_reads_does_not(
    folder: Path, simulated: list[MainloopKey], key: MainloopKey, ampere: Path
) -> None:
    for sets in ([], ["dram.channels=20"], ["sm.count=64"], ["clock.boost_mhz=1005"]):
        mainloop_timing(load_gpu(ampere, sets), key, 1)
    assert len(simulated) == 1
    for sets in (["shared_memory.latency_cycles=40"], ["tensor_core.decoder.codes_per_cycle=32"], ["sm.schedulers=2"]):
        mainloop_timing(load_gpu(ampere, sets), key, 1)
    assert len(simulated) == len(files(folder)) == 4


@pytest.mark.parametrize("damage", ["", "{", '{"period": 3}', "[1, 2]"])
def test_a_damaged_file_is_simulated_again(
    damage: str, folder: Path, simulated: list[MainloopKey], key: MainloopKey, spec: GpuSpec
) -> None:
    first = mainloop_timing(spec, key, 1)
    (file,) = files(folder)
    file.write_text(damage)
    forget()
    assert mainloop_timing(spec, key, 1) == first
    assert len(simulated) == 2


def test_a_cache_that_cannot_be_written_is_only_slower(
    folder: Path, simulated: list[MainloopKey], key: MainloopKey, spec: GpuSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("NMSIM_CACHE_DIR", str(folder / "taken"))
    for _ in range(2):
        forget()
        mainloop_timing(spec, key, 1)
    assert len(simulated) == 2


@pytest.mark.parametrize("change", [lambda s: s, lambda s: s.model_copy(update={"sources": {"*": "another text"}})])
def test_a_source_text_is_no_part_of_the_key(change: Callable[[GpuSpec], GpuSpec], spec: GpuSpec) -> None:
    key, changed = (mainloops._sm_key(mainloops._SmParts(one)) for one in (spec, change(spec)))
    assert key == changed


def test_a_pass_takes_the_longer_of_its_loads_and_its_arithmetic(spec: GpuSpec) -> None:
    """8192 bytes at 128 a cycle, against flops at 2 x 64 a cycle."""
    for flops, cycles in ((0, 64), (8192, 64), (128 * 100, 100), (128 * 100 + 1, 101)):
        key = MainloopKey("stream", "fp32", "dense", (1, 256, 32), (1, 256), 4, (1, 1, 1), 8192, stream_flops=flops)
        timing = stream_timing(spec, key, 3)
        assert timing.period == ((cycles, 1),) * 3
        assert timing.busy_cycles == (cycles, 1)
