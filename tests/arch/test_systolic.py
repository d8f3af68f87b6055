"""Machines of kind systolic: what loads, what is refused and how."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.check import check_arch, count_sourced
from nmsim.arch.load import load_arch, load_gpu
from nmsim.arch.resolve import arch_key, resolved_arch
from nmsim.arch.spec import GpuSpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern

Write = Callable[..., Path]


@pytest.fixture
def array() -> dict[str, Any]:
    """Plain data of a small systolic machine that loads and checks clean; yours to change."""
    sourced = {"sources": {"*": "assumption: a machine for tests"}}
    nm = {"enabled": True, "patterns": "any", "input_width": "any"}
    return {
        "schema": "nmsim-arch/1",
        "name": "small",
        "kind": "systolic",
        "clock_mhz": 1000,
        "sources": {"clock_mhz": "assumption"},
        "array": {"rows": 8, "columns": 16, "dataflow": "ws", "overlap": "fold", "nm": nm | sourced} | sourced,
        "buffers": {"input_bytes": 65536, "filter_bytes": 65536, "output_bytes": 65536} | sourced,
        "dram": {"bandwidth_gb_per_s": 10, "latency_ns": 100} | sourced,
        "energy": {"mac_pj": {"fp16": 1}, "metadata_code_pj": 0, "buffer_pj_per_byte": 1, "dram_pj_per_byte": 30} | sourced,
        "power": {"static_w": 1} | sourced,
    }  # fmt: skip


def test_kind_decides_which_specification_a_file_becomes(arch_configs: Path, ampere: Path) -> None:
    assert isinstance(load_arch(arch_configs / "systolic_128.yaml"), SystolicSpec)
    assert isinstance(load_arch(arch_configs / "systolic_32.yaml"), SystolicSpec)
    assert isinstance(load_arch(ampere), GpuSpec)


def test_a_gpu_asked_for_by_name_is_a_gpu_or_an_input_error(arch_configs: Path, ampere: Path) -> None:
    assert isinstance(load_gpu(ampere), GpuSpec)
    with pytest.raises(InputError, match="a machine of kind gpu is needed, and Systolic array 32 x 32 is of kind systolic"):
        load_gpu(arch_configs / "systolic_32.yaml")


def test_the_128_array_peaks_where_half_a_tpu_v2_chip_does(arch_configs: Path) -> None:
    spec = load_arch(arch_configs / "systolic_128.yaml")
    assert isinstance(spec, SystolicSpec)
    assert 2 * spec.peak_macs_per_cycle * spec.clock_mhz * 1e-6 == pytest.approx(45 / 2, rel=0.03)  # TFLOP/s, two cores a chip


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("array.dataflow", "rs", "array.dataflow: must be 'ws', 'os' or 'is', got 'rs'"),
        ("array.overlap", "some", "array.overlap: must be 'none', 'fold' or 'full', got 'some'"),
        ("array.rows", 0, "array.rows: must be greater than 0, got 0"),
        ("array.rows", 1 << 20, "array.rows: must be at most 16384, got 1048576"),
        ("array.nm.patterns", 4, "array.nm.patterns: must be `any` or a list of N:M patterns"),
        ("array.nm.patterns", ["4:2"], "array.nm.patterns: an N:M pattern keeps 1 <= N <= M <= 64 of M elements, got '4:2'"),
        ("array.nm.patterns", [], "array.nm.patterns: is empty while nm.enabled is true; write any, list patterns, or set enabled: false"),
        ("array.colums", 8, "array.colums: is not a key that is known here; did you mean 'columns'?"),
        ("clock_mhz", -1, "clock_mhz: must be greater than 0, got -1"),
        ("dram.bandwidth_gb_per_s", 0, "dram.bandwidth_gb_per_s: must be at least 0.001, got 0"),
        ("energy.mac_pj", {}, "energy.mac_pj: names no element type, so the array could run none; add for example {fp16: 1.0}"),
        ("energy.mac_pj", {"fp61": 1}, "energy.mac_pj.fp61: is not an element type, got 'fp61'"),
        ("sm", {"count": 4}, "sm: is not a key that is known here"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(
    write_machine: Write, array: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    holder: Any = array
    *above, last = path.split(".")
    for part in above:
        holder = holder[part]
    holder[last] = value
    with pytest.raises(InputError) as caught:
        load_arch(write_machine(array))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_and_an_override_are_named(write_machine: Write, array: dict[str, Any]) -> None:
    file = write_machine(array)
    with pytest.raises(InputError, match=r"^--set array\.rows=x: array\.rows: must be a whole number, got 'x'$"):
        load_arch(file, ["array.rows=x"])
    spec = load_arch(file, ["array.overlap=full", "array.nm.enabled=false", "clock_mhz=500"])
    assert isinstance(spec, SystolicSpec)
    assert (spec.array.overlap, spec.array.nm.held(), spec.clock_mhz) == ("full", (), 500)
    assert spec.sources["clock_mhz"] == "set by --set clock_mhz=500"


def test_patterns_are_any_or_those_listed(write_machine: Write, array: dict[str, Any]) -> None:
    spec = load_arch(write_machine(array))
    assert isinstance(spec, SystolicSpec)
    assert spec.array.nm.held() is None
    array["array"]["nm"]["patterns"] = ["2:4", "1:4"]
    spec = load_arch(write_machine(array))
    assert isinstance(spec, SystolicSpec)
    assert spec.array.nm.held() == (NMPattern(2, 4), NMPattern(1, 4))


def test_every_single_value_needs_a_source(write_machine: Write, array: dict[str, Any]) -> None:
    file = write_machine(array)
    assert check_arch(file) == []
    spec = load_arch(file)
    assert (
        count_sourced(spec) == len([key for block in ("array", "buffers", "dram", "energy", "power") for key in array[block]]) - 6 + 3 + 1
    )
    stripped = json.loads(json.dumps(array))
    del stripped["sources"]
    del stripped["array"]["nm"]["sources"]
    del stripped["dram"]["sources"]
    found = [finding.path for finding in check_arch(write_machine(stripped)) if finding.severity == "error"]
    assert found == [
        "clock_mhz",
        "array.nm.enabled",
        "array.nm.patterns",
        "array.nm.input_width",
        "dram.bandwidth_gb_per_s",
        "dram.latency_ns",
    ]


@pytest.mark.parametrize(
    ("override", "remark"),
    [("buffers.filter_bytes=200", "cannot hold two stationary tiles of 8 x 16 elements (512 bytes)"),
     ("dram.bandwidth_gb_per_s=0.5", "is 0.50 bytes a cycle, less than one element")],
)  # fmt: skip
def test_doubtful_numbers_are_remarked_on(write_machine: Write, array: dict[str, Any], override: str, remark: str) -> None:
    (finding,) = check_arch(write_machine(array), [override])
    assert (finding.severity, finding.path) == ("warning", override.partition("=")[0])
    assert remark in finding.problem


def test_the_key_moves_with_numbers_and_not_with_names_or_sources(write_machine: Write, array: dict[str, Any]) -> None:
    file = write_machine(array)
    key = arch_key(load_arch(file))
    assert arch_key(load_arch(file, ["name=other", "array.sources.rows=measured"])) == key
    assert arch_key(load_arch(file, ["array.overlap=none"])) != key
    assert resolved_arch(load_arch(file))["array"]["nm"] == {"enabled": True, "patterns": "any", "input_width": "any"}
