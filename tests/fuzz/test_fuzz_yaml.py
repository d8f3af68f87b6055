"""Whatever stands in a machine's file, in an override or in a sweep's file: it is read, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nmsim.arch.check import check_arch
from nmsim.arch.load import load_arch
from nmsim.sweep.spec import KEYS, read_sweep_spec, sweep_spec_of_texts
from tests.fuzz.hostile import BOMB, NUMBERS, STRUCTURES, WORDS, fuzzed, little_memory, mutated_lines, read_or_refused, tokens, values

REPOSITORY = Path(__file__).parents[2]
MACHINES = ("ampere.yaml", "systolic_32.yaml")
SWEEP = """arch: [{archs}/ampere.yaml]
set: {{sm.count: [72, 108], l2.capacity_bytes: [1048576, 41943040]}}
workload: [{workloads}/digits_resnet_*.nmtrace]
recipe: [dense, sr-ste]
pattern: [recorded, "2:4", "1:8"]
batch: [recorded, 64]
dtype: [recorded, int8]
baseline: [dense, tile-wise]
l2: cold
engine: compiled
"""


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return file


def keys_of(data: Any, path: str = "") -> list[str]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, child in children for found in (f"{path}{key}", *keys_of(child, f"{path}{key}."))]


@pytest.fixture(scope="module")
def machines() -> dict[str, str]:
    return {name: (REPOSITORY / "arch_configs" / name).read_text() for name in MACHINES}


@pytest.fixture(scope="module")
def sweep_text() -> str:
    return SWEEP.format(archs=REPOSITORY / "arch_configs", workloads=REPOSITORY / "workloads")


def machine_text(data: st.DataObject, machines: dict[str, str]) -> str:
    return mutated_lines(data.draw, machines[data.draw(st.sampled_from(MACHINES))])


def machine_file(data: st.DataObject, machines: dict[str, str], folder: Path) -> None:
    file = write(folder / "machine.yaml", machine_text(data, machines))
    if read_or_refused(lambda: load_arch(file)) is None:
        read_or_refused(lambda: list(check_arch(file)))


def machine_of_anything(data: st.DataObject, machines: dict[str, str], folder: Path) -> None:
    content = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.text(max_size=200),
            values.map(repr),
            st.lists(tokens, max_size=12).map("\n".join),
            st.dictionaries(tokens, tokens, max_size=6).map(lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs.items())),
        )
    )
    assert read_or_refused(lambda: load_arch(write(folder / "machine.yaml", content))) is not None


def override(data: st.DataObject, machines: dict[str, str], folder: Path) -> None:
    name = data.draw(st.sampled_from(MACHINES))
    known = keys_of(YAML(typ="safe").load(machines[name]))
    keys = st.one_of(
        st.sampled_from(known), tokens, st.lists(st.sampled_from(["sm", "count", "0", "mma", "sources", "-1", "*"])).map(".".join)
    )
    given_ = [f"{data.draw(keys)}={data.draw(tokens)}" for _ in range(data.draw(st.integers(1, 3)))]
    read_or_refused(lambda: load_arch(REPOSITORY / "arch_configs" / name, given_))


def sweep_file(data: st.DataObject, sweep_text: str, folder: Path) -> None:
    read_or_refused(lambda: read_sweep_spec(write(folder / "sweep.yaml", mutated_lines(data.draw, sweep_text))))


def sweep_options(data: st.DataObject, _sweep_text: str, _folder: Path) -> None:
    known = st.sampled_from(["2:4", "dense", "sm.count=[1,2]", "sm.count=144", "recorded", "64", "int8", "cold", "workloads/*.nmtrace"])
    texts = data.draw(st.dictionaries(st.sampled_from(KEYS), st.lists(st.one_of(known, tokens), max_size=4)))
    read_or_refused(lambda: sweep_spec_of_texts(texts))


MACHINE_CASES = {"file": machine_file, "anything": machine_of_anything, "override": override}
SWEEP_CASES = {"file": sweep_file, "options": sweep_options}
by_machine_case = pytest.mark.parametrize("case", MACHINE_CASES.values(), ids=MACHINE_CASES)
by_sweep_case = pytest.mark.parametrize("case", SWEEP_CASES.values(), ids=SWEEP_CASES)


@by_machine_case
@fuzzed(35)
@given(data=st.data())
def test_a_machine_is_read_or_refused(case: Callable[..., None], data: st.DataObject, machines: dict[str, str], tmp_path: Path) -> None:
    case(data, machines, tmp_path)


@pytest.mark.slow
@by_machine_case
@fuzzed(3_000)
@given(data=st.data())
def test_a_machine_is_read_or_refused_nine_thousand_times(
    case: Callable[..., None], data: st.DataObject, machines: dict[str, str], tmp_path: Path
) -> None:
    case(data, machines, tmp_path)


@by_sweep_case
@fuzzed(50)
@given(data=st.data())
def test_a_sweep_is_read_or_refused(case: Callable[..., None], data: st.DataObject, sweep_text: str, tmp_path: Path) -> None:
    case(data, sweep_text, tmp_path)


@pytest.mark.slow
@by_sweep_case
@fuzzed(2_500)
@given(data=st.data())
def test_a_sweep_is_read_or_refused_five_thousand_times(
    case: Callable[..., None], data: st.DataObject, sweep_text: str, tmp_path: Path
) -> None:
    case(data, sweep_text, tmp_path)


def test_every_hostile_token_is_refused_as_the_number_of_sms_and_in_a_sweep(
    machines: dict[str, str], sweep_text: str, tmp_path: Path
) -> None:
    with little_memory():
        for token in [*NUMBERS, *WORDS, *STRUCTURES]:
            text = machines["ampere.yaml"].replace("count: 108", f"count: {token}", 1)
            said = read_or_refused(lambda text=text: load_arch(write(tmp_path / "machine.yaml", text)))  # type: ignore[misc]
            assert said is not None or token in ("007", "0o777", "2147483647", "+3", "&a 1"), token
            sweep = sweep_text.replace("batch: [recorded, 64]", f"batch: {token}", 1)
            read_or_refused(lambda sweep=sweep: read_sweep_spec(write(tmp_path / "sweep.yaml", sweep)))  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a, *a]",
        "[" * 100_000,
        "{a: " * 20_000,
        "a:\n" * 50_000,
        "x: " + "9" * 999_000,
        "- " * 400_000,
        "\x00" * 1000,
        "é: " * 9999,
    ],
    ids=["alias bomb", "self", "brackets", "braces", "keys", "digits", "dashes", "nul", "accents"],
)
def test_a_bomb_is_refused_at_once_in_little_memory(text: str, tmp_path: Path) -> None:
    file = write(tmp_path / "bomb.yaml", text)
    with little_memory():
        assert read_or_refused(lambda: load_arch(file)) is not None
        assert read_or_refused(lambda: read_sweep_spec(file)) is not None
