"""Traces and tables from elsewhere: damaged, truncated, or made to lead out of their folder, they are refused in a sentence."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmsim.errors import InputError
from nmsim.result.points import read_sweep
from nmsim.result.store import read_results, write_results
from nmsim.validation.gemm_rows import read_gemm_rows
from nmsim.workload.store import read_trace
from tests.fuzz.hostile import NUMBERS, WORDS, fuzzed, little_memory, mutated_lines, read_or_refused, tokens, values
from tests.report.conftest import build_result

WORKLOADS = Path(__file__).parents[2] / "workloads"
CSV = """id,arch,l2,m,n,k,dtype,dense_us,sparse_us,tags,gpu,source,status,note
one,ampere.yaml,warm,4096,4096,4096,fp16,550.1,301.2,square,A100,mine,measured,
two,ampere_pcie.yaml,cold,1024,4096,512,bf16,30,,,,,,"a, note"
three,ampere.yaml,,512,512,512,int8,,12.5,,,,,
"""


class Shelf:
    """A small real trace, taken apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = WORKLOADS / "digits_resnet_sr_ste_2to4.nmtrace"
        self.manifest: dict[str, Any] = json.loads((source / "manifest.json").read_text())
        self.masks = (source / "masks.safetensors").read_bytes()
        folder.mkdir(exist_ok=True)

    def put(self, manifest: Any, masks: bytes) -> None:
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode("utf-8", "surrogatepass")
        (self.folder / "manifest.json").write_bytes(text)
        (self.folder / "masks.safetensors").write_bytes(masks)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf") / "digits.nmtrace")


def some_place(data: st.DataObject, value: Any) -> tuple[Any, Any]:
    """(container, key) of a value somewhere in nested data, all depths alike."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        child = value[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.integers(0, 5)) == 0:
            return value, key
        value = child


def changed_manifest(data: st.DataObject, shelf: Shelf) -> None:
    manifest = copy.deepcopy(shelf.manifest)
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = some_place(data, manifest)
        action = data.draw(st.sampled_from(["set", "set", "set", "delete", "rename"]))
        if action == "set":
            holder[key] = data.draw(st.one_of(values, tokens))
        elif action == "delete":
            del holder[key]
        elif isinstance(holder, dict):
            holder[data.draw(st.one_of(tokens, st.sampled_from(["../../x", "/etc/passwd", "a/../b", "~root"])))] = holder.pop(key)
    shelf.put(manifest, shelf.masks)
    read_or_refused(lambda: read_trace(shelf.folder))


def any_manifest(data: st.DataObject, shelf: Shelf) -> None:
    content = data.draw(st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode()), st.text().map(str.encode)))
    shelf.put(content, shelf.masks)
    assert read_or_refused(lambda: read_trace(shelf.folder)) is not None


def damaged_masks(data: st.DataObject, shelf: Shelf) -> None:
    whole = shelf.masks
    action = data.draw(st.sampled_from(["truncate", "header length", "garbage", "header text", "append"]))
    cut = data.draw(st.integers(0, len(whole) - 1))
    if action == "truncate":
        masks = whole[:cut]
    elif action == "header length":
        masks = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1))) + whole[8:]
    elif action == "garbage":
        masks = data.draw(st.binary(max_size=400))
    elif action == "append":
        masks = whole + data.draw(st.binary(min_size=1, max_size=50))
    else:
        header = json.dumps(
            {"x": {"dtype": "U8", "shape": data.draw(st.lists(st.integers(-1, 10**18))), "data_offsets": [0, cut]}}
        ).encode()
        masks = struct.pack("<Q", len(header)) + header + whole[:cut]
    shelf.put(shelf.manifest, masks)
    assert read_or_refused(lambda: read_trace(shelf.folder)) is not None


TRACE_CASES = {"manifest": changed_manifest, "any manifest": any_manifest, "masks": damaged_masks}
by_trace_case = pytest.mark.parametrize("case", TRACE_CASES.values(), ids=TRACE_CASES)


@by_trace_case
@fuzzed(30)
@given(data=st.data())
def test_a_trace_is_read_or_refused(case: Callable[..., None], data: st.DataObject, shelf: Shelf) -> None:
    with little_memory():
        case(data, shelf)


@pytest.mark.slow
@by_trace_case
@fuzzed(1_500)
@given(data=st.data())
def test_a_trace_is_read_or_refused_four_thousand_times(case: Callable[..., None], data: st.DataObject, shelf: Shelf) -> None:
    with little_memory():
        case(data, shelf)


@pytest.mark.parametrize("column", ["id", "arch", "l2", "m", "k", "dtype", "dense_us", "tags"])
def test_every_hostile_token_in_a_table_is_read_or_refused(column: str, tmp_path: Path) -> None:
    header, first, *_ = CSV.split("\n")
    for token in [*NUMBERS, *WORDS]:
        cells = dict(zip(header.split(","), first.split(","), strict=True)) | {column: f'"{token.replace(chr(34), chr(34) * 2)}"'}
        (tmp_path / "mine.csv").write_bytes(f"{header}\n{','.join(cells.values())}\n".encode("utf-8", "surrogatepass"))
        said = read_or_refused(lambda: read_gemm_rows(tmp_path / "mine.csv"))
        assert said is not None or column not in ("m", "k") or token in ("007", "2147483647"), token


def measured_file(data: st.DataObject, folder: Path) -> None:
    text = mutated_lines(data.draw, CSV)
    if data.draw(st.booleans()):
        rows = [line.split(",") for line in text.split("\n")]
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.one_of(tokens, st.sampled_from([*NUMBERS, *WORDS])))
        text = "\n".join(map(",".join, rows))
    content = data.draw(st.one_of(st.just(text.encode("utf-8", "surrogatepass")), st.binary(max_size=300)))
    (folder / "mine.csv").write_bytes(content)
    read_or_refused(lambda: read_gemm_rows(folder / "mine.csv"))


@fuzzed(100)
@given(data=st.data())
def test_measurements_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    measured_file(data, tmp_path)


@pytest.mark.slow
@fuzzed(2_500)
@given(data=st.data())
def test_measurements_are_read_or_refused_thousands_of_times(data: st.DataObject, tmp_path: Path) -> None:
    measured_file(data, tmp_path)


def stored_result(data: st.DataObject, folder: Path) -> None:
    for file in data.draw(st.lists(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())), min_size=1, max_size=2)):
        content = file.read_bytes() if file.exists() else b""
        cut = data.draw(st.integers(0, max(0, len(content) - 1)))
        damage = data.draw(st.sampled_from(["truncate", "byte", "garbage", "delete"]))
        if damage == "delete":
            file.unlink(missing_ok=True)
        elif damage == "byte" and content:
            file.write_bytes(content[:cut] + bytes([content[cut] ^ data.draw(st.integers(1, 255))]) + content[cut + 1 :])
        else:
            file.write_bytes(content[:cut] if damage == "truncate" else data.draw(st.binary(max_size=100)))
    read_or_refused(lambda: read_results(folder))
    read_or_refused(lambda: read_sweep(folder))


@fuzzed(15)
@given(data=st.data())
def test_damaged_results_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    write_results([build_result(1, ("traced", "dense"))], tmp_path / "results")
    stored_result(data, tmp_path / "results")


@pytest.mark.slow
@fuzzed(1_500)
@given(data=st.data())
def test_damaged_results_are_read_or_refused_many_times(data: st.DataObject, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    write_results([build_result(1, ("traced", "dense"))], tmp_path / "results")
    stored_result(data, tmp_path / "results")


@pytest.mark.parametrize("name", ["manifest.json", "masks.safetensors"])
def test_a_link_that_leads_out_of_a_trace_is_refused(name: str, shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "linked.nmtrace"
    shelf.put(shelf.manifest, shelf.masks)
    shutil.copytree(shelf.folder, folder)
    assert read_trace(folder).gemms
    outside = tmp_path / f"outside-{name}"
    (folder / name).rename(outside)
    os.symlink(outside, folder / name)
    with pytest.raises(InputError, match="leads out of the trace"):
        read_trace(folder)
    os.remove(folder / name)
    shutil.move(outside, folder / f"kept-{name}")
    os.symlink(f"kept-{name}", folder / name)
    assert read_trace(folder).gemms


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["gemms"][0].update(m=10**18),
        lambda manifest: next(iter(manifest["masks"].values())).update(shape=[10**18]),
        lambda manifest: next(iter(manifest["masks"].values())).update(shape=[2**31 - 1] * 4),
        lambda manifest: manifest.update(gemms=[manifest["gemms"][0]] * 3),
        lambda manifest: manifest.update(name="../../outside"),
        lambda manifest: manifest["masks"].update({"../../etc/passwd": next(iter(manifest["masks"].values()))}),
        lambda manifest: manifest.update(schedule=[{"steps": 10, "trace": "../../secret.nmtrace"}]),
        lambda manifest: manifest["provenance"].update(loss=float("nan")),
        lambda manifest: manifest["provenance"].update(hyper_parameters=json.loads("[" * 400 + "]" * 400)),
    ],
    ids=["dimension", "mask", "mask of four", "one id twice", "name", "key", "schedule", "nan", "deep"],
)
def test_a_manifest_of_bad_faith_is_refused_in_little_memory(change: Callable[[Any], None], shelf: Shelf) -> None:
    manifest = copy.deepcopy(shelf.manifest)
    change(manifest)
    shelf.put(manifest, shelf.masks)
    with little_memory():
        assert read_or_refused(lambda: read_trace(shelf.folder)) is not None
