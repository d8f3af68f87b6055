import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.check import KINDS_OF_SOURCE, RECORDED_DTYPE, check_arch, count_sourced, hints
from nmsim.arch.load import load_arch, load_gpu
from nmsim.errors import InputError

Write = Callable[..., Path]


def findings(write: Write, data: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(found.severity, found.path, found.problem) for found in check_arch(write(data))]


def blocks_of(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(name, block) for name, block in data.items() if isinstance(block, dict)]
    return [*found, ("tensor_core.decoder", data["tensor_core"]["decoder"])]


def test_a_machine_whose_every_value_has_a_source_is_clean(write_machine: Write, small_machine: dict[str, Any]) -> None:
    assert findings(write_machine, small_machine) == []


def test_every_single_value_needs_a_source(write_machine: Write, small_machine: dict[str, Any]) -> None:
    expected = []
    for name, block in blocks_of(small_machine):
        keys = [key for key in block if key not in ("sources", "decoder")]
        block["sources"] = dict.fromkeys(keys[1:], "assumption: for tests")
        expected.append(("error", f"{name}.{keys[0]}", f"has no source; add `{keys[0]}: ...` to {name}.sources"))
    assert sorted(findings(write_machine, small_machine)) == sorted(expected)


def test_each_value_left_without_a_source_is_found_one_by_one(write_machine: Write, small_machine: dict[str, Any]) -> None:
    for name, block in blocks_of(small_machine):
        keys = [key for key in block if key not in ("sources", "decoder")]
        for left_out in keys:
            block["sources"] = {key: "assumption: for tests" for key in keys if key != left_out}
            assert [path for _, path, _ in findings(write_machine, small_machine)] == [f"{name}.{left_out}"]
        block["sources"] = {"*": "assumption: for tests"}


def test_an_l2_that_holds_the_operand_may_be_walked_along_it(write_machine: Write, small_machine: dict[str, Any]) -> None:
    small_machine["kernels"]["nm_raster_width"] = 1
    small_machine["l2"]["capacity_bytes"] = 16_777_216
    assert findings(write_machine, small_machine) == []


def test_a_machine_that_cannot_run_the_recorded_steps_as_they_are_is_told_so(write_machine: Write, small_machine: dict[str, Any]) -> None:
    (hint,) = hints(load_arch(write_machine(small_machine)))
    assert "no dense bf16 instruction" in hint
    assert "--dtype and one of fp16" in hint
    small_machine["tensor_core"]["mma"].append({**small_machine["tensor_core"]["mma"][0], "dtype": "bf16"})
    small_machine["energy"]["mac_pj"]["bf16"] = 1.0
    assert hints(load_arch(write_machine(small_machine))) == []


def test_the_recorded_steps_have_the_element_type_that_the_hint_names() -> None:
    manifests = list((Path(__file__).parents[2] / "workloads").glob("*.nmtrace/manifest.json"))
    assert len(manifests) > 10
    assert {gemm["dtype"] for file in manifests for gemm in json.loads(file.read_text(encoding="utf-8"))["gemms"]} == {RECORDED_DTYPE}


def test_a_source_must_speak_of_something_that_is_there_and_say_something(write_machine: Write, small_machine: dict[str, Any]) -> None:
    small_machine["sm"]["sources"] = {"*": "datasheet", "cout": "datasheet", "count": "  "}
    small_machine["tensor_core"]["mma"][0]["sources"] = {"latency": "measured"}
    assert findings(write_machine, small_machine) == [
        ("error", "sm.sources.cout", "speaks of 'cout', which the block does not hold"),
        ("error", "sm.sources.count", "is empty; name a datasheet, a paper and table, a measurement, the rows of a fit, or say assumption"),
        ("error", "tensor_core.mma.0.sources.latency", "speaks of 'latency', which the block does not hold"),
    ]


@pytest.mark.parametrize("text", ["todo", "42", "see the web", "undatasheeted"])
def test_a_source_has_to_say_how_its_value_came_about(text: str, write_machine: Write, small_machine: dict[str, Any]) -> None:
    small_machine["sm"]["sources"] = {"*": "datasheet", "count": text}
    ((severity, path, problem),) = findings(write_machine, small_machine)
    assert (severity, path) == ("error", "sm.sources.count")
    assert "begin with one of datasheet, measured, derived, fitted, assumption" in problem


@pytest.mark.parametrize("kind", KINDS_OF_SOURCE)
def test_a_kind_may_come_first_or_later_and_in_capitals(kind: str, write_machine: Write, small_machine: dict[str, Any]) -> None:
    for text in (kind, f"{kind}: page 3", f"{kind.capitalize()}: page 3", f"fp16 {kind}: page 3; int8 unknown"):
        small_machine["sm"]["sources"] = {"*": text}
        assert findings(write_machine, small_machine) == []


def test_more_than_ten_times_the_boards_limit_is_no_machine(write_machine: Write, small_machine: dict[str, Any]) -> None:
    """Peak dense power over the limit is a remark up to ten times, and an error beyond; never both."""
    spec = load_gpu(write_machine(small_machine))
    dynamic_w = 4096 * small_machine["energy"]["mac_pj"]["fp16"] * spec.clock.boost_mhz * 1e-6
    for times, severity in ((9.9, "warning"), (10.1, "error")):
        wanted = times * spec.power.board_limit_w - spec.power.static_w
        small_machine["energy"]["mac_pj"]["fp16"] *= wanted / dynamic_w
        dynamic_w = wanted
        ((found, path, problem),) = findings(write_machine, small_machine)
        assert (found, path) == (severity, "energy.mac_pj.fp16")
        assert "W at the dense peak rate" in problem


def test_a_default_that_nobody_wrote_needs_no_source_and_one_that_was_written_does(
    write_machine: Write, small_machine: dict[str, Any]
) -> None:
    small_machine["tensor_core"]["sources"] = dict.fromkeys(("per_sm", "mma", "register_read_bytes_per_cycle"), "assumption")
    assert findings(write_machine, small_machine) == []
    small_machine["tensor_core"]["compressible_only_k_contiguous"] = ["int8"]
    assert [path for _, path, _ in findings(write_machine, small_machine)] == ["tensor_core.compressible_only_k_contiguous"]


def test_a_finding_prints_its_place(write_machine: Write, small_machine: dict[str, Any]) -> None:
    del small_machine["power"]["sources"]
    file = write_machine(small_machine)
    line = next(number for number, text in enumerate(file.read_text().splitlines(), start=1) if '"static_w"' in text)
    assert f"{file}:{line}: error: power.static_w: has no source; add `static_w: ...` to power.sources" in map(str, check_arch(file))


def test_a_file_that_does_not_load_cannot_be_checked(write_machine: Write) -> None:
    with pytest.raises(InputError):
        check_arch(write_machine("kind: gpu"))


def test_the_count_of_sourced_values_is_that_of_the_values(write_machine: Write, small_machine: dict[str, Any]) -> None:
    values = sum(len([key for key in block if key not in ("sources", "decoder")]) for _, block in blocks_of(small_machine))
    assert count_sourced(load_arch(write_machine(small_machine))) == values


@pytest.mark.parametrize(
    ("path", "value", "where", "words"),
    [
        (("sm", "schedulers"), 2, "sm.schedulers", "differs from tensor_core.per_sm (4)"),
        (
            ("tensor_core", "mma", 1, "issue_interval_cycles"),
            4,
            "tensor_core.mma.1",
            "executes 8,192 MACs a cycle, more than the dense fp16 instructions' 4,096",
        ),
        (("tensor_core", "mma", 0, "latency_cycles"), 7, "tensor_core.mma.0.latency_cycles", "is below the issue interval (8 cycles)"),
        (
            ("tensor_core", "decoder", "codes_per_cycle"),
            16,
            "tensor_core.mma.1",
            "consumes 256 metadata codes in 8 cycles, the decoder supplies 128: it runs at 50% of its rate",
        ),
        (
            ("tensor_core", "register_read_bytes_per_cycle"),
            180,
            "tensor_core.mma.1",
            "reads 1536 bytes of registers in 8 cycles, the register file supplies 1440: it runs at 94% of its rate",
        ),
        (("l2", "capacity_bytes"), 4_194_305, "l2.capacity_bytes", "does not divide over 16 slices; set l2.slices_per_partition"),
        (
            ("kernels", "nm_raster_width"),
            1,
            "l2.capacity_bytes",
            "holds no compressed FP16 operand of 4096 x 4096 (16,777,216 bytes), and kernels.nm_raster_width 1 walks along it",
        ),
        (("l2", "sustained_fraction"), 0.1, "l2.sustained_fraction", "leaves L2 102 GB/s, less than DRAM's 200"),
        (("noc", "sm_port_bytes_per_cycle"), 16, "noc.sm_port_bytes_per_cycle", "lets all SMs together take 64 GB/s, less than DRAM gives"),
        (
            ("dram", "row_active_ns"),
            10,
            "dram.row_active_ns",
            "is below row_to_column_ns (14): the row would close before its first column",
        ),
        (("dram", "refresh_ns"), 1000, "dram.refresh_ns", "takes 26% of the time"),
        (("shared_memory", "banks"), 8, "shared_memory.banks", "take fewer bytes a cycle than the SM's port brings"),
        (
            ("kernels", "tiles", 0, "stages"),
            11,
            "kernels.tiles.0.stages",
            "need 180224 bytes of shared memory, a CTA has 166912: a dense kernel never uses this tile",
        ),
        (
            ("kernels", "nm_tiles"),
            [{"cta": [256, 128, 128], "warp": [64, 64], "stages": 5}],
            "kernels.nm_tiles.0.stages",
            "need 174080 bytes of shared memory, a CTA has 166912: a 2:4 FP16 kernel never uses this tile",
        ),
        (("sm", "registers"), 16384, "kernels.tiles.0", "needs 27904 registers a CTA, an SM has 16384"),
        (("sm", "max_warps"), 3, "kernels.tiles.0.warp", "makes 4 warps a CTA, an SM holds 3"),
        (
            ("energy", "mac_pj", "fp16"),
            30,
            "energy.mac_pj.fp16",
            "burns 143 W at the dense peak rate before any byte moves, above board_limit_w",
        ),
    ],
)
def test_a_doubtful_number_is_remarked_upon(
    write_machine: Write, small_machine: dict[str, Any], path: tuple[Any, ...], value: object, where: str, words: str
) -> None:
    holder: Any = small_machine
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    found = findings(write_machine, small_machine)
    assert {severity for severity, _, _ in found} == {"warning"}
    assert any(at == where and words in problem for _, at, problem in found), found
