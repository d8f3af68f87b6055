"""Whatever is done to the files of a trace, the reader reads it or refuses it in a sentence; it never falls over."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.legality import usable_structure
from nmsim.workload.repattern import with_dtype, with_pattern
from nmsim.workload.rescale import rescale_batch
from nmsim.workload.store import read_trace, write_trace
from nmsim.workload.summary import check_trace, summarise_trace

small_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.sampled_from([2**31 - 1, 2**31, 2**63, -(2**63), 10**40, 1e300, 0.5, -0.0, float("inf"), float("nan")]),
    st.sampled_from(
        ["", "m", "k", "2:4", "1:2", "64:64", "1/2", "nm", "tile_wise", "dense", "weight", "fc1.weight", "fc2", "int8", "../x", "\x00"]
    ),
    st.text(max_size=8),
    st.sampled_from([[], {}, [1], {"a": 1}, [[[]]], [8, 12], ["m", "k"], ["k"], ["l"] * 9]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in nested plain data."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found.extend(places(child, (*path, key)))
    return found


def mutate(manifest: Any, data: st.DataObject) -> None:
    """One random change: another value, a value from elsewhere in the manifest, a key lost, doubled or renamed."""
    every = places(manifest)
    *path, last = data.draw(st.sampled_from(every))
    parent = manifest
    for key in path:
        parent = parent[key]
    action = data.draw(st.sampled_from(["replace", "transplant", "delete", "duplicate", "rename"]))
    if action == "replace":
        parent[last] = data.draw(small_values)
    elif action == "transplant":
        donor = manifest
        for key in data.draw(st.sampled_from(every)):
            donor = donor[key]
        parent[last] = copy.deepcopy(donor)
    elif action == "delete":
        del parent[last]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        value = parent.pop(last) if action == "rename" else parent[last]
        parent[data.draw(st.sampled_from(["a", "0", "1/4", "fc1", "x" * 600, "../a", "\n"]))] = copy.deepcopy(value)


@pytest.fixture(scope="module")
def shelf(tiny, tmp_path_factory):
    folder = write_trace(tiny, tmp_path_factory.mktemp("fuzz") / "tiny.nmtrace")
    return folder, json.loads((folder / "manifest.json").read_text()), (folder / "masks.safetensors").read_bytes()


def refusal_of(folder) -> str | None:
    try:
        read_trace(folder)
    except InputError as refusal:
        return str(refusal)
    return None


def use(folder) -> None:
    """All that is done with a trace once it is read."""
    trace = read_trace(folder)
    summarise_trace(trace)
    for gemm in trace.gemms:
        for operand in (gemm.a, gemm.b):
            assert usable_structure(gemm, operand, trace).reason
    for derive in (lambda: rescale_batch(trace, 8), lambda: with_pattern(trace, NMPattern(1, 4)), lambda: with_dtype(trace, "int8")):
        with suppress(InputError):
            summarise_trace(derive())


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_manifest_reads_or_is_refused(shelf, data) -> None:
    folder, manifest, masks = shelf
    changed = copy.deepcopy(manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(changed, data)
    (folder / "manifest.json").write_text(json.dumps(changed))
    (folder / "masks.safetensors").write_bytes(masks)
    refusal = refusal_of(folder)
    if refusal is None:
        use(folder)
    else:
        assert "\n" not in refusal
        assert check_trace(folder)[0] == refusal


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_manifest_with_a_changed_character_reads_or_is_refused(shelf, data) -> None:
    folder, manifest, masks = shelf
    text = bytearray(json.dumps(manifest).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (folder / "manifest.json").write_bytes(text)
    (folder / "masks.safetensors").write_bytes(masks)
    with suppress(InputError):
        use(folder)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mask_file_with_a_changed_byte_is_refused(shelf, data) -> None:
    """Every byte matters: header, payload, tile-wise plan. Only spaces of the header's padding may be anything blank."""
    folder, manifest, masks = shelf
    changed = bytearray(masks)
    position = data.draw(st.integers(0, len(masks) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "masks.safetensors").write_bytes(changed)
    if masks[position : position + 1] == b" " and changed[position : position + 1].isspace():
        return
    with pytest.raises(InputError):
        read_trace(folder)
