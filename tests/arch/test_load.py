import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmsim.arch.load import load_arch
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError

Load = Callable[..., GpuSpec]
Write = Callable[..., Path]


def put(data: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """`data` with the value at a dotted path replaced."""
    holder: Any = data
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in above:
        holder = holder[part]
    holder[last] = value
    return data


def refusal(load: Load, data: dict[str, Any] | str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(data, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition("machine.yaml:")[2] or str(caught.value)


def test_a_machine_loads_with_the_values_that_were_written(load: Load, small_machine: dict[str, Any]) -> None:
    spec = load(small_machine)
    assert spec.sm.count == 4
    assert spec.tensor_core.mma[1].shape == (16, 8, 32)
    assert spec.tensor_core.mma[1].nm is not None
    assert spec.dram.bandwidth_gb_per_s == 200.0
    assert spec.peak_macs_per_cycle("fp16") == 4 * 4 * 256


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("sm.count", -4, "sm.count: must be greater than 0, got -4"),
        ("sm.count", 0, "sm.count: must be greater than 0, got 0"),
        ("sm.count", "108", "sm.count: must be a whole number, got '108'; remove the quotes"),
        ("sm.count", "many", "sm.count: must be a whole number, got 'many'"),
        ("sm.count", 1.5, "sm.count: must be a whole number, got 1.5"),
        ("sm.count", True, "sm.count: must be a whole number, got True"),
        ("sm.count", None, "sm.count: must be a whole number, got nothing"),
        ("sm.count", [1], "sm.count: must be a whole number, got a list"),
        ("sm.count", {"a": 1}, "sm.count: must be a whole number, got a mapping"),
        ("sm", 3, "sm: must be a mapping of keys to values, got 3"),
        ("kernels.tiles", {"a": 1}, "kernels.tiles: must be a list, got a mapping"),
        ("kernels.tiles", [], "kernels.tiles: must hold at least 1 item(s), got 0"),
        ("kernels.tiles.1.cta", [64, 64], "kernels.tiles.1.cta: needs at least 3 items, got 2"),
        ("kernels.tiles.1.cta", [64, 64, 64, 64], "kernels.tiles.1.cta: must hold at most 3 item(s), got 4"),
        ("kernels.tiles.0.stages", 0, "kernels.tiles.0.stages: must be at least 1, got 0"),
        ("l2.sustained_fraction", 1.5, "l2.sustained_fraction: must be at most 1, got 1.5"),
        ("launch.kernel_us", -0.1, "launch.kernel_us: must be at least 0, got -0.1"),
        ("name", 7, "name: must be text, got 7; put it in quotes"),
        ("name", "", "name: must not be empty, got ''"),
        ("schema", "nmsim-arch/9", "schema: must be 'nmsim-arch/1', got 'nmsim-arch/9'"),
        ("kind", "tpu", "kind: is not a kind of machine, got 'tpu'; known kinds: gpu, systolic"),
        ("kind", ["gpu"], "kind: is not a kind of machine, got ['gpu']; known kinds: gpu, systolic"),
        ("energy.mac_pj.fp16", "0.8", "energy.mac_pj.fp16: must be a number, got '0.8'; remove the quotes"),
        (
            "tensor_core.mma.0.pattern",
            "3:2",
            "tensor_core.mma.0.pattern: an N:M pattern keeps 1 <= N <= M <= 64 of M elements, got '3:2'; write for example 2:4",
        ),
        ("clock.min_mhz", 2000, "clock: min_mhz must not exceed boost_mhz (1000), got 2000"),
        ("sm.cout", 4, "sm.cout: is not a key that is known here; did you mean 'count'?"),
        (
            "tensor_core.mma.0.latncy_cycles",
            4,
            "tensor_core.mma.0.latncy_cycles: is not a key that is known here; did you mean 'latency_cycles'?",
        ),
        (
            "tensor_core.decoder.zzz",
            4,
            (
                "tensor_core.decoder.zzz: is not a key that is known here; "
                "known keys: sources, encoding, codes_per_cycle, selector_width, latency_cycles"
            ),
        ),
        ("sm.sources", {"count": 3}, "sm.sources.count: must be text, got 3; put it in quotes"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(
    load: Load, small_machine: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    line, _, text = refusal(load, put(small_machine, path, value)).partition(": ")
    assert text == sentence
    assert line.isdigit()


def test_the_line_is_that_of_the_wrong_value(write_machine: Write, small_machine: dict[str, Any]) -> None:
    path = write_machine(put(small_machine, "dram.banks", "x"))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), start=1) if '"banks": "x"' in text)
    with pytest.raises(InputError) as caught:
        load_arch(path)
    assert str(caught.value) == f"{path}:{line}: dram.banks: must be a whole number, got 'x'"
    assert (caught.value.file, caught.value.line, caught.value.path) == (str(path), line, "dram.banks")


def test_a_missing_key_is_named_where_its_block_begins(load: Load, small_machine: dict[str, Any]) -> None:
    del small_machine["sm"]["count"]
    assert refusal(load, small_machine).partition(": ")[2] == "sm: the key 'count' is missing; add sm.count"
    del small_machine["kind"]
    assert refusal(load, small_machine) == "1: the key 'kind' is missing; add `kind: gpu`; known kinds: gpu, systolic"


def test_a_misspelt_key_is_reported_rather_than_the_one_it_leaves_missing(load: Load, small_machine: dict[str, Any]) -> None:
    small_machine["l2"]["capacity_byte"] = small_machine["l2"].pop("capacity_bytes")
    assert "l2.capacity_byte: is not a key that is known here; did you mean 'capacity_bytes'?" in refusal(load, small_machine)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("sm.count", 20_000, "sm.count: must be at most 16,384, got 20000"),
        ("sm.shared_memory_per_cta_bytes", 167_000, "must be at most 166912, what an SM has less the reserved part, got 167000"),
        ("tensor_core.mma.0.dtype", "fp61", "tensor_core.mma.0.dtype: is not an element type, got 'fp61'; known: fp32, tf32"),
        ("tensor_core.mma.0.dtype", "int8", "energy.mac_pj: has no energy for the int8 instructions of the tensor cores; add a int8 value"),
        ("tensor_core.mma.1.shape", [16, 8, 30], "tensor_core.mma.1.shape: its k must hold whole groups of 2:4, got [16, 8, 30]"),
        ("tensor_core.compressible_only_k_contiguous", ["x"], "tensor_core.compressible_only_k_contiguous.0: is not an element type"),
        ("energy.mac_pj", {"fp16": 1, "fp61": 1}, "energy.mac_pj.fp61: is not an element type, got 'fp61'"),
        ("l2.partitions", 3, "l2.partitions: must be a power of two, got 3; use 2 or 4"),
        ("l2.block_bytes", 10_000, "l2.block_bytes: must be a power of two, got 10000; use 8192 or 16384"),
        ("dram.interleave_bytes", 96, "dram.interleave_bytes: must be a power of two, got 96; use 64 or 128"),
        ("dram.interleave_bytes", 16384, "l2.block_bytes: must be at least dram.interleave_bytes (16384), got 8192"),
        ("dram.row_bytes", 1500, "dram.row_bytes: must be a power of two, got 1500; use 1024 or 2048"),
        ("dram.banks", 12, "dram.banks: must be a power of two, got 12; use 8 or 16"),
        ("dram.refresh_ns", 3900, "dram.refresh_ns: must be below refresh_interval_ns (3900), or the channel never runs, got 3900.0"),
        ("l2.capacity_bytes", 8192, "l2.capacity_bytes: must hold a block (8192 bytes) in each of 2 partition(s), got 8192"),
        ("l2.far_latency_cycles", 100, "l2.far_latency_cycles: must not be below near_latency_cycles (200), got 100"),
        ("kernels.tiles.0.cta", [128, 128, 96], "kernels.tiles.0.cta: its k must be 64 or 128 bytes, got [128, 128, 96]"),
        ("kernels.tiles.0.warp", [48, 64], "kernels.tiles.0.warp: must divide the CTA tile 128 x 128, got [48, 64]"),
        ("kernels.tiles.0.warp", [8, 64], "kernels.tiles.0.warp: must be a multiple of 16 x 8, the instructions' m x n, got [8, 64]"),
        ("sm.shared_memory_per_cta_bytes", 32_000, "kernels.tiles: no tile fits the shared memory of a CTA (32000 bytes)"),
        ("power.static_w", 100, "power.static_w: must be below board_limit_w (100), got 100.0"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    load: Load, small_machine: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    assert sentence in refusal(load, put(small_machine, path, value))


def test_an_instruction_given_twice_is_refused(load: Load, small_machine: dict[str, Any]) -> None:
    small_machine["tensor_core"]["mma"].append(small_machine["tensor_core"]["mma"][0])
    assert "tensor_core.mma.2: is the same instruction as tensor_core.mma.0; remove one of the two" in refusal(load, small_machine)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def every_path(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path] * bool(path) + [found for key, value in pairs for found in every_path(value, (*path, key))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(choice=st.data())
def test_any_machine_with_anything_in_place_of_a_value_loads_or_is_an_input_error(
    choice: st.DataObject, small_machine: dict[str, Any], write_machine: Write
) -> None:
    data = deepcopy(small_machine)
    path = choice.draw(st.sampled_from(every_path(data)))
    holder: Any = data
    for part in path[:-1]:
        holder = holder[part]
    if choice.draw(st.booleans()):
        holder[path[-1]] = choice.draw(JSON_VALUES)
    elif isinstance(holder, dict):
        holder[choice.draw(st.text(max_size=8))] = holder.pop(path[-1])
    else:
        holder.pop(path[-1])
    file = write_machine(json.dumps(data))
    try:
        spec = load_arch(file)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{file}:1: ")  # the whole document is one line
    else:
        assert isinstance(spec, GpuSpec)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    override=st.one_of(
        st.text(max_size=30),
        st.tuples(st.sampled_from(["sm.count", "kernels.tiles.0.stages", "name", "l2", "x.y"]), st.text(max_size=12)).map("=".join),
    )
)
def test_any_override_loads_or_is_an_input_error(override: str, small_machine: dict[str, Any], write_machine: Write) -> None:
    file = write_machine(json.dumps(small_machine))
    try:
        assert isinstance(load_arch(file, [override]), GpuSpec)
    except InputError as error:
        assert "\n" not in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(cut=st.integers(0, 10_000), length=st.integers(0, 40), junk=st.text(max_size=6))
def test_a_shipped_file_with_any_part_damaged_loads_or_is_an_input_error(
    cut: int, length: int, junk: str, write_machine: Write, ampere: Path
) -> None:
    text = ampere.read_text(encoding="utf-8")
    file = write_machine(text[:cut] + junk + text[cut + length :])
    try:
        assert isinstance(load_arch(file), GpuSpec)
    except InputError as error:
        assert "\n" not in str(error)
