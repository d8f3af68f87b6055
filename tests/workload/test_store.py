"""A trace on disk is the trace that was written, byte for byte the same each time, or a sentence about what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nmsim.errors import InputError
from nmsim.workload import store
from nmsim.workload.catalogue import linear_gemms
from nmsim.workload.store import read_trace, read_weights, trace_file_findings, write_trace
from nmsim.workload.trace import Provenance, Trace


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_what_is_read_is_what_was_written(tiny, folder, normal) -> None:
    assert normal(read_trace(folder)) == normal(tiny)


def test_equal_traces_are_equal_bytes_whatever_the_order_of_their_mappings(tiny, folder, tmp_path) -> None:
    shuffled = replace(
        tiny,
        masks=dict(reversed(tiny.masks.items())),
        payloads=dict(reversed(tiny.payloads.items())),
        provenance=replace(tiny.provenance, hyper_parameters=dict(reversed(tiny.provenance.hyper_parameters.items()))),
    )
    assert contents(write_trace(shuffled, tmp_path / "again.nmtrace")) == contents(folder)


def test_a_trace_read_and_written_again_is_the_same_bytes(folder, tmp_path) -> None:
    assert contents(write_trace(read_trace(folder), tmp_path / "copy.nmtrace")) == contents(folder)


def test_masks_are_packed_eight_to_a_byte(tiny, folder) -> None:
    stored = load_file(folder / "masks.safetensors")
    assert stored["fc1.weight"].shape == (8, 2)
    assert np.array_equal(np.unpackbits(stored["fc1.weight"], axis=1, bitorder="little")[:, :12], tiny.payloads["fc1.weight"])
    assert stored["tile_wise/1of2/fc1.columns"].shape == (1,)
    assert stored["tile_wise/1of2/fc1.rows"].shape == (2, 2)
    assert "fc3.weight" not in stored


def test_arrays_that_were_checked_can_not_be_changed_afterwards(folder) -> None:
    trace = read_trace(folder)
    plan = trace.tile_wise["1/2"]["fc1"]
    for array in (*trace.payloads.values(), plan.columns, plan.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = True


def test_a_trace_replaces_a_trace_and_leaves_nothing_else_behind(tiny, folder) -> None:
    write_trace(replace(tiny, name="second"), folder)
    assert read_trace(folder).name == "second"
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_a_refused_trace_is_not_written_and_the_old_one_stays(tiny, folder) -> None:
    before = contents(folder)
    lying = replace(tiny, gemms=(replace(tiny.gemms[0], macs=1), *tiny.gemms[1:]))
    with pytest.raises(InputError, match=r"tiny.nmtrace/manifest.json: gemms\['conv:forward'\].macs: is not the hand count"):
        write_trace(lying, folder)
    assert contents(folder) == before
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_a_run_killed_while_writing_leaves_the_old_trace(tiny, folder, monkeypatch) -> None:
    before = contents(folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_trace(replace(tiny, name="second"), folder)
    assert contents(folder) == before
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_nothing_but_a_trace_is_ever_replaced(tiny, tmp_path) -> None:
    thesis = tmp_path / "thesis.nmtrace"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match="no trace is already there"):
        write_trace(tiny, thesis)
    assert (thesis / "chapter.tex").read_text() == "years of work"


def test_a_trace_has_its_suffix(tiny, tmp_path) -> None:
    with pytest.raises(InputError, match=r"add .nmtrace"):
        write_trace(tiny, tmp_path / "tiny")


@pytest.mark.parametrize("value", [np.int64(3), np.float32(0.5), float("nan"), {1, 2}, {3: "three"}, "\ud800"])
def test_what_json_can_not_hold_is_refused_before_anything_is_written(tiny, tmp_path, value) -> None:
    odd = replace(tiny, provenance=replace(tiny.provenance, hyper_parameters={"odd": value}))
    with pytest.raises(InputError):
        write_trace(odd, tmp_path / "tiny.nmtrace")
    assert list(tmp_path.iterdir()) == []


def test_a_numpy_integer_in_a_shape_is_refused_in_one_sentence(tiny, tmp_path) -> None:
    odd = replace(tiny, gemms=(replace(tiny.gemms[0], m=np.int64(tiny.gemms[0].m)), *tiny.gemms[1:]))
    with pytest.raises(InputError, match="not plain data"):
        write_trace(odd, tmp_path / "tiny.nmtrace")


def test_shapes_alone_need_no_mask_file(tmp_path) -> None:
    provenance = Provenance("shapes-only", "one layer", "", "", {}, 0, 0, None, None, {})
    trace = Trace("shapes", provenance, 2, "fp16", tuple(linear_gemms("fc", 4, 8, 8, "fp16")))
    folder = write_trace(trace, tmp_path / "shapes.nmtrace")
    (folder / "masks.safetensors").unlink()
    assert read_trace(folder) == trace


def test_weights_are_kept_in_half_precision_beside_the_trace(tiny, tmp_path) -> None:
    weights = {"fc1": np.arange(96, dtype=np.float16).reshape(8, 12)}
    folder = write_trace(tiny, tmp_path / "tiny.nmtrace", weights)
    assert read_weights(folder)["fc1"].tolist() == weights["fc1"].tolist()
    assert read_weights(write_trace(tiny, tmp_path / "bare.nmtrace")) == {}


@pytest.mark.parametrize("weight", [np.ones(3, dtype=np.float32), np.array([1, np.inf], dtype=np.float16)])
def test_weights_of_another_type_or_not_finite_are_refused(tiny, tmp_path, weight) -> None:
    with pytest.raises(InputError, match=r"float16|finite"):
        write_trace(tiny, tmp_path / "tiny.nmtrace", {"fc1": weight})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_manifest_or_mask_file_is_named(folder, tmp_path) -> None:
    with pytest.raises(InputError, match="there is no such trace"):
        read_trace(tmp_path / "absent.nmtrace")
    (tmp_path / "packed.nmtrace").write_bytes(b"PK")
    with pytest.raises(InputError, match="is a file, and a trace is a folder"):
        read_trace(tmp_path / "packed.nmtrace")
    (folder / "masks.safetensors").rename(tmp_path / "masks.safetensors")
    with pytest.raises(InputError, match=r"masks.safetensors: the file is missing"):
        read_trace(folder)
    (tmp_path / "masks.safetensors").rename(folder / "masks.safetensors")
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest.json: the file is missing"):
        read_trace(folder)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_mask_file_is_refused(folder, kept) -> None:
    file = folder / "masks.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"masks.safetensors: is not a whole safetensors file"):
        read_trace(folder)


def rewrite_masks(folder: Path, edit) -> None:
    tensors = load_file(folder / "masks.safetensors")
    edit(tensors)
    save_file(tensors, folder / "masks.safetensors")


def flip_a_bit(tensors) -> None:
    tensors["fc2.weight"][3, 0] ^= 1


def flip_a_bit_of_a_plan(tensors) -> None:
    tensors["tile_wise/1of2/fc1.rows"][0, 0] ^= 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (flip_a_bit, r"manifest.json: masks\['fc2.weight'\].digest: is not the digest of the stored mask"),
        (flip_a_bit_of_a_plan, r"tile_wise\['1/2'\]\['fc1'\].digest: is not the digest of the stored plan"),
        (lambda t: t.pop("fc2.weight"), r"masks.safetensors: a mask that the manifest names is missing, got 'fc2.weight'"),
        (lambda t: t.update(stray=t["fc2.weight"]), r"a tensor that the manifest does not name, got 'stray'"),
        (lambda t: t.update({"fc2.weight": t["fc2.weight"][:4]}), r"fc2.weight: a packed mask of shape \[16, 8\] is U8 \[16, 1\]"),
        (lambda t: t.update({"fc2.weight": t["fc2.weight"].astype(np.int16)}), r"fc2.weight: a packed mask .*, got 'I16 \[16, 1\]'"),
        (lambda t: t.update({"fc1.weight": t["fc1.weight"] | 0x80}), r"fc1.weight: a padding bit"),
    ],
)
def test_a_mask_that_is_not_the_recorded_one_is_refused_by_name(folder, edit, message) -> None:
    rewrite_masks(folder, edit)
    with pytest.raises(InputError, match=message):
        read_trace(folder)


def test_every_single_flipped_mask_bit_is_noticed(folder) -> None:
    pristine = load_file(folder / "masks.safetensors")
    for key, array in pristine.items():
        for byte in range(0, array.size, 5):
            tensors = {name: values.copy() for name, values in pristine.items()}
            tensors[key].reshape(-1)[byte] ^= 1 << byte % 8
            save_file(tensors, folder / "masks.safetensors")
            with pytest.raises(InputError):
                read_trace(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "schema": "nmsim-trace/1",\n "name": }\n', r"manifest.json:3: is not JSON"),
        ('{"schema": 1, "schema": 2}', "an object has one key twice, got 'schema'"),
        ('{"schema": NaN}', "a number is not finite, got 'NaN'"),
        ('{"schema": -Infinity}', "a number is not finite"),
        ("[" * 100_000, "objects too deep"),
        ('{"schema": ' + "9" * 10_000 + "}", "a number too long"),
        (
            '{"schema": "nmsim-trace/2"}',
            r"schema: this version does not read it, got 'nmsim-trace/2'; record the trace again as nmsim-trace/1",
        ),
        ("[]", "must be an object"),
        ("", r"manifest.json:1: is not JSON"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(folder, text, message) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_trace(folder)


def test_bytes_that_are_no_text_are_refused(folder) -> None:
    (folder / "manifest.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_trace(folder)


def test_a_file_too_large_for_a_manifest_is_not_even_read(folder, monkeypatch) -> None:
    monkeypatch.setattr(store, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(InputError, match="which no manifest is"):
        read_trace(folder)


def test_all_contradictions_are_listed_not_just_the_first(folder) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["gemms"][0]["macs"] += 1
    manifest["gemms"][5]["macs"] += 1
    manifest["masks"]["fc2.weight"]["density"] = 0.4
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(list(trace_file_findings(folder))) == 3
