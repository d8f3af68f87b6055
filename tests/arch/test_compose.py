from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmsim.arch.check import check_arch
from nmsim.arch.compose import overridden, read_extended
from nmsim.arch.load import load_gpu, read_arch
from nmsim.arch.spec import GpuSpec
from nmsim.errors import InputError

Write = Callable[..., Path]


@pytest.fixture
def child(write_machine: Write, small_machine: dict[str, Any]) -> Callable[[str], Path]:
    """Write `base.yaml`, and a machine that extends it with the given text."""
    write_machine(small_machine, "base.yaml")
    return lambda text: write_machine(f"extends: base.yaml\n{text}", "child.yaml")


WHERE = "the path starts at this file's folder; write the whole path of a shipped file"


def test_a_child_changes_what_it_says_and_keeps_the_rest(child: Callable[[str], Path], write_machine: Write) -> None:
    spec = load_gpu(
        child(
            "name: faster\nclock: {boost_mhz: 1200}\nenergy: {mac_pj: {int8: 0.4}}\n"
            "kernels:\n  tiles:\n  - {cta: [64, 64, 64], warp: [32, 32], stages: 3}\n"
        )
    )
    base = load_gpu(write_machine({"extends": "base.yaml"}, "same.yaml"))
    assert (spec.name, spec.clock.boost_mhz, spec.clock.min_mhz) == ("faster", 1200, base.clock.min_mhz)
    assert spec.energy.mac_pj == {"fp16": 0.8, "int8": 0.4}  # mappings are merged
    assert len(spec.kernels.tiles) == 1  # lists are replaced
    assert spec.dram == base.dram


def test_an_overridden_value_does_not_keep_the_source_of_the_old_one(child: Callable[[str], Path]) -> None:
    findings = check_arch(child("clock: {boost_mhz: 1200}\n"))
    assert [(finding.severity, finding.path, finding.line) for finding in findings] == [("error", "clock.boost_mhz", 2)]
    assert findings[0].file.endswith("child.yaml")


def test_a_source_that_named_the_old_value_goes_with_it(write_machine: Write, small_machine: dict[str, Any]) -> None:
    small_machine["clock"]["sources"] = dict.fromkeys(("boost_mhz", "min_mhz", "step_mhz"), "datasheet: of the old card")
    write_machine(small_machine, "base.yaml")
    path = write_machine("extends: base.yaml\nclock: {boost_mhz: 1200}\n", "child.yaml")
    assert [finding.path for finding in check_arch(path)] == ["clock.boost_mhz"]
    assert set(load_gpu(path).clock.sources) == {"min_mhz", "step_mhz"}


def test_a_child_brings_the_source_of_what_it_changes(child: Callable[[str], Path]) -> None:
    path = child("clock: {boost_mhz: 1200, sources: {'*': 'assumption: faster'}}\n")
    assert check_arch(path) == []
    sources = load_gpu(path).clock.sources
    assert sources["boost_mhz"] == "assumption: faster"
    assert sources["min_mhz"] == sources["step_mhz"] == "assumption: a machine for tests"


def test_errors_name_the_file_that_holds_the_value(
    child: Callable[[str], Path], write_machine: Write, small_machine: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"child\.yaml:2: sm\.count: must be greater than 0, got -1$"):
        load_gpu(child("sm: {count: -1}\n"))
    path = child("sm: {count: 5}\n")
    small_machine["dram"]["banks"] = 0
    write_machine(small_machine, "base.yaml")
    with pytest.raises(InputError, match=r"base\.yaml:\d+: dram\.banks: must be at least 1, got 0$"):
        load_gpu(path)


def test_a_machine_may_extend_one_that_extends_another(child: Callable[[str], Path], write_machine: Write) -> None:
    child("name: middle\nclock: {boost_mhz: 1200, sources: {boost_mhz: 'assumption: faster'}}\nsm: {count: 7}\n")
    path = write_machine("extends: child.yaml\nname: last\nsm: {count: 9, sources: {count: 'assumption: more'}}\n", "last.yaml")
    spec = load_gpu(path)
    assert (spec.name, spec.clock.boost_mhz, spec.sm.count) == ("last", 1200, 9)
    assert check_arch(path) == []
    _, document = read_arch(path)
    assert Path(document.place(("clock", "boost_mhz")).file).name == "child.yaml"


def test_a_base_must_be_there_and_lead_to_an_end(child: Callable[[str], Path], write_machine: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_extended(write_machine("extends: nowhere.yaml", "lost.yaml"))
    assert str(caught.value) == f"{tmp_path / 'lost.yaml'}:1: extends: {tmp_path / 'nowhere.yaml'}: no such file; {WHERE}"
    write_machine("extends: second.yaml", "first.yaml")
    with pytest.raises(InputError, match=r"first\.yaml:1: extends: .*second\.yaml extends this file in its turn"):
        read_extended(write_machine("extends: first.yaml", "second.yaml"))
    with pytest.raises(InputError, match=r"self\.yaml:1: extends: .*self\.yaml extends this file in its turn"):
        read_extended(write_machine("extends: self.yaml", "self.yaml"))
    for wrong in ("[a]", "3", "''"):
        with pytest.raises(InputError, match=r"extends: must be the name of a YAML file"):
            read_extended(write_machine(f"extends: {wrong}", "wrong.yaml"))


def test_an_override_is_applied_in_order_and_to_list_items(write_machine: Write, small_machine: dict[str, Any]) -> None:
    file = write_machine(small_machine)
    spec = load_gpu(file, ["sm.count=144", "sm.count=12", "kernels.tiles.0.stages=3", "tensor_core.mma.1.pattern=1:4", "description=hello"])
    assert (spec.sm.count, spec.kernels.tiles[0].stages, spec.tensor_core.mma[1].pattern, spec.description) == (12, 3, "1:4", "hello")


def test_an_override_is_its_own_source(write_machine: Write, small_machine: dict[str, Any]) -> None:
    file = write_machine(small_machine)
    spec, document = read_arch(file, ["sm.count=144", "kernels.tiles.0.stages=3"])
    assert isinstance(spec, GpuSpec)
    assert spec.sm.sources["count"] == "set by --set sm.count=144"
    assert spec.kernels.sources["tiles"] == "set by --set kernels.tiles.0.stages=3"
    assert spec.sm.sources["*"] == "assumption: a machine for tests"
    assert document.place(("sm", "count")).file == "--set sm.count=144"
    assert check_arch(file, ["sm.count=5"]) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sm.count=-4", "--set sm.count=-4: sm.count: must be greater than 0, got -4"),
        ("sm.cout=4", "--set sm.cout=4: sm.cout: is not a key that is known here; did you mean 'count'?"),
        ("drum.banks=4", "--set drum.banks=4: has no key 'drum'; did you mean 'dram'?"),
        ("sm.count.x=1", "--set sm.count.x=1: sm.count: is a single value, which has no key 'x', got 4"),
        (
            "kernels.tiles.9.stages=3",
            "--set kernels.tiles.9.stages=3: kernels.tiles: is a list of 2, which has no position '9'; use a position from 0 to 1",
        ),
        (
            "kernels.tiles.-1.stages=3",
            "--set kernels.tiles.-1.stages=3: kernels.tiles: is a list of 2, which has no position '-1'; use a position from 0 to 1",
        ),
        (
            "kernels.tiles.0=3",
            "--set kernels.tiles.0=3: kernels.tiles.0: holds several values; set the parts one by one, as in a.b=1 and a.0.b=2",
        ),
        ("sm=3", "--set sm=3: sm: holds several values; set the parts one by one, as in a.b=1 and a.0.b=2"),
        ("sm.count", "--set sm.count: is not of the form KEY.KEY=VALUE; write for example --set sm.count=144"),
        ("sm..count=3", "--set sm..count=3: is not of the form KEY.KEY=VALUE; write for example --set sm.count=144"),
        ("=3", "--set =3: is not of the form KEY.KEY=VALUE; write for example --set sm.count=144"),
        ("sm.count=", "--set sm.count=: sm.count: must be a whole number, got nothing"),
        ("clock.min_mhz=5000", "--set clock.min_mhz=5000: clock: min_mhz must not exceed boost_mhz (1000), got 5000"),
        (
            "a\nb=1",
            (
                "--set 'a\\nb=1': 'a\\nb': is not a key that is known here; known keys: sources, schema, name, kind, description, clock, "
                "sm, shared_memory, tensor_core, noc, l1, l2, dram, kernels, launch, energy, power"
            ),
        ),
    ],
)
def test_a_wrong_override_is_named(write_machine: Write, small_machine: dict[str, Any], override: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_gpu(write_machine(small_machine), [override])
    assert str(caught.value) == sentence


def test_an_override_that_does_not_go_with_the_file_is_mentioned(write_machine: Write, small_machine: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"l2\.block_bytes: must be at least .* \(with dram\.interleave_bytes=16384\), got 8192"):
        load_gpu(write_machine(small_machine), ["dram.interleave_bytes=16384"])


def test_overriding_leaves_the_document_it_was_given_alone(write_machine: Write, small_machine: dict[str, Any]) -> None:
    document = read_extended(write_machine(small_machine))
    overridden(document, ["sm.count=7"])
    assert document.data["sm"]["count"] == 4
