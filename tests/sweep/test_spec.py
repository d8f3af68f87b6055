"""A sweep's axes: what they may say, and where it says so when they may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sweep.spec import KEYS, read_sweep_spec, sweep_spec_of_texts

WHOLE = """\
arch: a.yaml
set:
  sm.count: [72, 108]
  tensor_core.name: x
workload: [one.nmtrace, /abs/two.nmtrace]
recipe: [dense, sr-ste]
pattern: [recorded, 2:4]
batch: [recorded, 64]
dtype: int8
baseline: tile-wise
l2: warm
engine: simpy
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return file


def test_every_axis_is_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    spec = read_sweep_spec(written(tmp_path, WHOLE))
    assert spec.archs == (tmp_path / "a.yaml",)
    assert spec.overrides == (("sm.count", ("72", "108")), ("tensor_core.name", ("x",)))
    assert spec.workloads == (("", (tmp_path / "one.nmtrace", Path("/abs/two.nmtrace"))),)
    assert spec.recipes == ("dense", "sr-ste")
    assert (spec.patterns, spec.batches, spec.dtypes) == ((None, "2:4"), (None, 64), ("int8",))
    assert (spec.schemes, spec.l2, spec.engine) == (("tile_wise",), "warm", "simpy")


def test_options_say_the_same_as_a_file(tmp_path: Path) -> None:
    texts = {
        "arch": ["a.yaml"],
        "set": ["sm.count=[72, 108]", "tensor_core.name=x"],
        "workload": ["one.nmtrace", "/abs/two.nmtrace"],
        "recipe": ["dense", "sr-ste"],
        "pattern": ["recorded", "2:4"],
        "batch": ["recorded", "64"],
        "dtype": ["int8"],
        "baseline": ["tile-wise"],
        "l2": ["warm"],
        "engine": ["simpy"],
    }
    assert set(texts) == set(KEYS)
    by_options, by_file = sweep_spec_of_texts(texts), read_sweep_spec(written(tmp_path, WHOLE))
    assert by_options.overrides == by_file.overrides
    assert (by_options.patterns, by_options.batches, by_options.recipes) == (by_file.patterns, by_file.batches, by_file.recipes)
    assert by_options.archs == (Path("a.yaml"),)


def test_left_out_axes_are_as_recorded(tmp_path: Path) -> None:
    spec = read_sweep_spec(written(tmp_path, "arch: a.yaml\nworkload: one.nmtrace\n"))
    assert (spec.recipes, spec.patterns, spec.batches, spec.dtypes) == ((), (None,), (None,), (None,))
    assert spec.schemes == ("traced", "dense", "tile_wise")


def test_named_workloads_and_wildcards(tmp_path: Path, traces: Path) -> None:
    text = f"arch: a.yaml\nworkload:\n  small: '{traces}/layer_*.nmtrace'\n  wide: ['{traces}/wide_sr_ste_2to4.nmtrace']\n"
    (small, found), (wide, _) = read_sweep_spec(written(tmp_path, text)).workloads
    assert (small, wide) == ("small", "wide")
    assert [file.stem for file in found] == ["layer_dense", "layer_mvue_1to4", "layer_sr_ste_2to4"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("archs: b.yaml", "sweep.yaml:13: archs: no such key of a sweep; did you mean 'arch'?"),
        ("arch: b.yaml", "sweep.yaml:13: the key 'arch' is given twice; first on line 1"),
        ("pattern: [2:4, 4:2]", "keeps 1 <= N <= M <= 64"),
        ("pattern: [2:4, 2:4]", "sweep.yaml:7: pattern.1: is given twice, got '2:4'; remove one"),
        ("pattern: 24", "sweep.yaml:7: pattern: not an N:M pattern, got 24"),
        ("pattern: []", "sweep.yaml:7: pattern: must hold 1 to 10,000 values"),
        ("batch: [0]", "sweep.yaml:8: batch.0: a batch is 1 to"),
        ("batch: true", "a batch is 1 to"),
        ("dtype: fp99", "sweep.yaml:9: dtype: no such dtype, got 'fp99'; use one of fp32"),
        (
            "baseline: [sparse]",
            "sweep.yaml:10: baseline.0: no such baseline, got 'sparse'; use one of traced, dense,",
        ),
        ("l2: hot", "sweep.yaml:11: l2: no such l2, got 'hot'; use one of cold, warm"),
        ("engine: verilog", "engine: no such engine"),
        ("set: 3", "sweep.yaml:2: set: must be keys of the machine"),
        ("set: {sm.count: [null]}", "a value to set is a number"),
        ("set: {sm.count: [[1]]}", "a value to set is a number"),
        ("workload: [1]", "workload.0: must be a text, got 1"),
        ("workload: {}", "names no workload"),
        ("workload: none_*.nmtrace", "no trace has a name like this, got 'none_*.nmtrace'"),
        ("recipe: ['']", "recipe.0: must be a text"),
    ],
)
def test_what_is_no_sweep_is_one_sentence_with_its_line(tmp_path: Path, change: str, sentence: str) -> None:
    key = change.split(":")[0]
    lines = WHOLE.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith(f"{key}:")), None)
    if start is None or change.startswith("arch:"):
        lines.append(change)
    else:
        stop = next((number for number in range(start + 1, len(lines)) if not lines[number].startswith(" ")), len(lines))
        lines[start:stop] = [change] + ["  # gone"] * (stop - start - 1)
    with pytest.raises(InputError) as refused:
        read_sweep_spec(written(tmp_path, "\n".join(lines)))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("missing", ["arch", "workload"])
def test_a_sweep_without_machines_or_traces_is_refused(tmp_path: Path, missing: str) -> None:
    text = "\n".join(line for line in ("arch: a.yaml", "workload: b.nmtrace") if not line.startswith(missing))
    with pytest.raises(InputError, match=f"a sweep needs at least one {missing}"):
        read_sweep_spec(written(tmp_path, text))


@pytest.mark.parametrize("text", ["sm.count", "=3", "sm.count=[1", "sm.count={a: 1}", "sm.count=[[1]]"])
def test_an_override_of_no_form_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        sweep_spec_of_texts({"arch": ["a"], "workload": ["b"], "set": [text]})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["2:4", "recorded", "dense", "cold"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), values, max_size=6))
def test_any_document_is_a_sweep_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]) -> None:
    import json

    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(json.dumps(data))
    try:
        spec = read_sweep_spec(file)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert spec.archs
        assert spec.patterns
