"""Each way in which a manifest can lie is refused by a sentence that names the entry and the field."""

from __future__ import annotations

import re

import pytest

from nmsim.errors import InputError
from nmsim.workload.store import read_trace


def gemm(manifest, name):
    return next(entry for entry in manifest["gemms"] if entry["id"] == name)


def change(name, *path_and_value):
    """An edit that sets one field of one GEMM entry."""
    *path, last, value = path_and_value

    def edit(manifest) -> None:
        entry = gemm(manifest, name)
        for key in path:
            entry = entry[key]
        entry[last] = value

    return edit


def change_mask(name, *path_and_value):
    *path, last, value = path_and_value

    def edit(manifest) -> None:
        entry = manifest["masks"][name]
        for key in path:
            entry = entry[key]
        entry[last] = value

    return edit


def change_plan(field, value):
    return lambda manifest: manifest["tile_wise"]["1/2"]["fc1"].update({field: value})


def change_provenance(field, value):
    return lambda manifest: manifest["provenance"].update({field: value})


FORWARD = "gemms['fc1:forward']"
LIES = {
    "an unknown key": (lambda m: m.update(extra=1), "there is no such key, got 'extra'"),
    "an unknown key of an entry": (change("fc1:forward", "color", "red"), f"{FORWARD}: there is no such key, got 'color'"),
    "a missing key": (lambda m: gemm(m, "fc1:forward").pop("macs"), "the key 'macs' is missing"),
    "a dimension of zero": (change("fc1:forward", "m", 0), f"{FORWARD}.m: must be between 1 and 2147483647, got 0"),
    "a negative dimension": (change("fc1:forward", "k", -12), f"{FORWARD}.k: must be between"),
    "a huge dimension": (change("fc1:forward", "n", 2**31), f"{FORWARD}.n: must be between"),
    "a number no machine prints": (change("fc1:forward", "n", 10**3000), "an integer of 9966 bits"),
    "a fraction as a dimension": (change("fc1:forward", "m", 8.0), f"{FORWARD}.m: must be a whole number, got 8.0"),
    "true as a dimension": (change("fc1:forward", "l", True), f"{FORWARD}.l: must be a whole number, got True"),
    "text as a dimension": (change("fc1:forward", "m", "8"), f"{FORWARD}.m: must be a whole number, got '8'"),
    "macs that were not counted": (
        change("fc1:forward", "macs", 769),
        f"{FORWARD}.macs: is not the hand count of the shape, got 769; m*n*k*l gives 768",
    ),
    "macs beyond 63 bits": (change("fc1:forward", "macs", 2**63), f"{FORWARD}.macs: must be between"),
    "a strided gradient counted as if it were not": (
        change("conv:backward_data", "macs", 4 * 36 * 4 * 72),
        "gemms['conv:backward_data'].macs: is not the hand count of the shape",
    ),
    "an unknown phase": (change("fc1:forward", "phase", "sideways"), f"{FORWARD}.phase: is none of the known values, got 'sideways'"),
    "an unknown type": (change("fc1:forward", "dtype", "fp12"), f"{FORWARD}.dtype: is none of the known values"),
    "a weight in backward_weight": (
        change("fc1:backward_weight", "b", "role", "weight"),
        "backward_weight multiplies activation x gradient",
    ),
    "a shape that contradicts k": (change("fc1:forward", "a", "shape", [8, 11]), f"{FORWARD}.a.shape: contradicts m, n, k, l, got [8, 11]"),
    "axes that contradict the operand": (change("fc1:forward", "a", "axes", ["m", "n"]), f"{FORWARD}.a.axes: an operand a has the axes"),
    "more axes than sizes": (change("fc1:forward", "a", "axes", ["l", "m", "k"]), f"{FORWARD}.a.shape: contradicts m, n, k, l"),
    "a batch without an l axis": (
        lambda m: gemm(m, "attention:scores:forward")["a"].update(axes=["m", "k"], shape=[5, 6]),
        "gemms['attention:scores:forward'].a.axes: l is 8 and the operand has no l axis",
    ),
    "a batch of the wrong length": (
        change("attention:scores:forward", "a", "shape", [9, 5, 6]),
        "gemms['attention:scores:forward'].a.shape: contradicts m, n, k, l",
    ),
    "a convolution whose m is not its pixels": (
        change("conv:forward", "m", 37),
        "gemms['conv:forward'].m: contradicts the convolution's geometry, got 37; it gives 36",
    ),
    "a convolution with a wrong stride": (change("conv:forward", "conv", "stride_h", 1), "gemms['conv:forward'].m: contradicts"),
    "a convolution with a stride of zero": (change("conv:forward", "conv", "stride_h", 0), "conv.stride_h: must be between 1"),
    "a convolution with a negative pad": (change("conv:forward", "conv", "pad_w", -1), "conv.pad_w: must be between 0"),
    "a kernel larger than the image": (change("conv:forward", "conv", "kernel_h", 9), "conv: the kernel is larger than the padded image"),
    "groups that do not divide": (
        change("conv:forward", "conv", "groups", 3),
        "conv: 3 groups do not divide 4 input and 8 output channels",
    ),
    "a convolution stored channels first": (
        change("conv:forward", "b", "shape", [8, 4, 3, 3]),
        "b.shape: contradicts the convolution's geometry",
    ),
    "the batch along the weight": (change("fc1:forward", "batch_axis", "n"), f"{FORWARD}.batch_axis: runs along the weight"),
    "the images along k in forward": (change("conv:forward", "batch_axis", "l"), "is not where a convolution's images lie"),
    "an nm operand without a pattern": (change("fc1:forward", "b", "pattern", None), f"{FORWARD}.b.pattern: an nm operand has a pattern"),
    "an nm operand without an axis": (change("fc1:forward", "b", "group_axis", None), f"{FORWARD}.b.group_axis: an nm operand names"),
    "an axis that is not there": (change("fc1:forward", "b", "group_axis", 2), f"{FORWARD}.b.group_axis: an nm operand names"),
    "groups along the rows of a kernel": (change("conv:forward", "b", "group_axis", 1), "run along 0 or 3, got 1"),
    "no N:M pattern": (change("fc1:forward", "b", "pattern", "5:4"), f"{FORWARD}.b.pattern: an N:M pattern keeps"),
    "a dense operand with a pattern": (change("fc1:forward", "a", "pattern", "2:4"), f"{FORWARD}.a: a dense operand has no N:M pattern"),
    "a dense operand with a mask": (change("fc3:backward_data", "b", "mask", "fc3.weight"), "a dense operand has no mask"),
    "a recorded nm operand without a mask": (
        change("fc1:forward", "b", "mask", None),
        f"{FORWARD}.b.mask: a recorded nm operand names its mask",
    ),
    "an unstructured operand without a mask": (
        lambda m: gemm(m, "fc1:forward")["b"].update(structure="unstructured", pattern=None, group_axis=None, mask=None),
        f"{FORWARD}.b.mask: a recorded unstructured operand names its mask",
    ),
    "a mask that is not there": (
        change("fc1:forward", "b", "mask", "fc9.weight"),
        f"{FORWARD}.b.mask: there is no such mask, got 'fc9.weight'",
    ),
    "the mask of another layer": (change("fc1:forward", "b", "mask", "fc2.weight"), "has shape [16, 8], the operand [8, 12]"),
    "a pattern that nobody checked": (change("fc1:forward", "b", "pattern", "1:4"), "no check of mask 'fc1.weight' for 1:4 along axis 1"),
    "an axis that nobody checked": (
        lambda m: m["masks"]["fc1.weight"]["checks"].pop("1"),
        "no check of mask 'fc1.weight' for 2:4 along axis 1",
    ),
    "a wrong density": (
        change_mask("fc2.weight", "density", 0.4),
        "masks['fc2.weight'].density: is not the density of the stored mask, got 0.4",
    ),
    "a density beyond one": (change_mask("fc2.weight", "density", 1.5), "masks['fc2.weight'].density: must be between 0 and 1"),
    "a density that checked groups can't have": (
        change_mask("fc3.weight", "density", 0.6),
        "masks['fc3.weight'].density: 0 groups of 2:4 broken along axis 1 allow at most 0.5, got 0.6",
    ),
    "violations that the mask has not": (
        change_mask("fc1.weight", "checks", "1", "violations", 1),
        "the stored mask breaks 0 groups of 2:4 there, got 1",
    ),
    "violations that the mask has and nobody recorded": (
        change_mask("fc2.weight", "checks", "0", "violations", 0),
        "masks['fc2.weight'].checks['0'].violations: the stored mask breaks",
    ),
    "more violations than groups": (change_mask("fc3.weight", "checks", "1", "violations", 99), "there are only 16 groups, got 99"),
    "groups that do not fit the shape": (change_mask("fc3.weight", "checks", "1", "groups", 15), "has 16 groups there, got 15"),
    "the check of an axis that the mask has not": (
        lambda m: m["masks"]["fc3.weight"]["checks"].update({"2": m["masks"]["fc3.weight"]["checks"]["1"]}),
        "masks['fc3.weight'].checks['2']: a mask of shape [4, 16] has no such axis",
    ),
    "a digest that is none": (change_mask("fc3.weight", "digest", "abc"), "must be a sha256 in 64 hex digits"),
    "the digest of something else": (change_mask("fc1.weight", "digest", "0" * 64), "masks['fc1.weight'].digest: is not the digest"),
    "a payload that was left out": (
        change_mask("fc3.weight", "payload", True),
        "a mask that the manifest names is missing, got 'fc3.weight'",
    ),
    "a payload that was not left out": (
        change_mask("fc1.weight", "payload", False),
        "a tensor that the manifest does not name, got 'fc1.weight'",
    ),
    "a plan for more columns than the weight has": (change_plan("columns", 7), "tile_wise/1of2/fc1.columns: a padding bit"),
    "a plan of fewer tiles": (
        change_plan("tile_width", 8),
        "tile_wise['1/2']['fc1'].tiles: is not the number of tiles, got 2; 6 kept columns make 1 tiles of 8",
    ),
    "a plan of tiles without width": (change_plan("tile_width", 0), "tile_width: must be between 1"),
    "a plan for no layer": (
        lambda m: gemm(m, "fc1:forward").update(module="fc7"),
        "tile_wise['1/2']['fc1']: no forward GEMM of this module holds a weight",
    ),
    "a density that is none": (lambda m: m["tile_wise"].update({"2/4": {}}), "is no density, got '2/4'"),
    "a density above one": (lambda m: m.update(own_density="3/2"), "own_density: is no density, got '3/2'"),
    "one id twice": (change("fc1:forward", "id", "conv:forward"), "gemms['conv:forward'].id: another entry has this id"),
    "one id twice in two lists": (lambda m: m["passes"][0].update(id="norm"), "passes['norm'].id: another entry has this id"),
    "an id that walks out of its folder": (change("fc1:forward", "id", "../../etc/passwd"), "must not leave its folder"),
    "a mask key that walks out of its folder": (change("fc1:forward", "b", "mask", "/etc/passwd"), "must not leave its folder"),
    "a scheduled trace outside": (
        lambda m: m["schedule"][0].update(trace="../other.nmtrace"),
        "schedule[0].trace: must not leave its folder",
    ),
    "a mask named like a plan": (lambda m: m["masks"].update({"tile_wise/x": {}}), "is the name of a tile-wise plan"),
    "a module name with an escape sequence": (
        change("fc1:forward", "module", "fc\x1b[31m"),
        f"{FORWARD}.module: holds a control character",
    ),
    "a module without a name": (change("fc1:forward", "module", ""), f"{FORWARD}.module: must have 1 to"),
    "a note with a bell": (change_provenance("notes", ["ring\a"]), "provenance.notes[0]: holds a control character"),
    "a loss that is text": (change_provenance("loss", "low"), "provenance.loss: must be a number, got 'low'"),
    "an accuracy in percent": (change_provenance("accuracy", 90.0), "provenance.accuracy: must be between 0 and 1, got 90.0"),
    "hyper-parameters in a list": (change_provenance("hyper_parameters", [1]), "provenance.hyper_parameters: must be an object"),
    "a version that is a number": (change_provenance("versions", {"torch": 2.13}), "provenance.versions['torch']: must be text"),
    "an unknown kind of trace": (change_provenance("kind", "dreamt"), "provenance.kind: is none of the known values"),
    "no samples": (lambda m: m.update(batch=0), "batch: must be between 1"),
    "negative bytes": (lambda m: m["operators"][0].update(bytes_read=-1), "operators['norm'].bytes_read: must be between 0"),
    "a pass that never runs": (lambda m: m["passes"][0].update(every_steps=0), "passes['search'].every_steps: must be between 1"),
    "a flag that is a number": (lambda m: m["operators"][0].update(scales_with_batch=1), "scales_with_batch: must be true or false, got 1"),
    "an operand without axes": (lambda m: gemm(m, "fc1:forward")["a"].update(axes=[], shape=[]), "a.shape: must have 1 to 4 sizes"),
    "an axis that no tensor has": (
        lambda m: m["masks"]["fc1.weight"]["checks"].update({"first": {}}),
        "masks['fc1.weight'].checks: is no axis of a mask, got 'first'; write 0 to 3",
    ),
    "a command without end": (change_provenance("command", "x" * 20_001), "provenance.command: is longer than 20000 characters"),
    "hyper-parameters without bottom": (
        change_provenance("hyper_parameters", {"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}),
        "is nested more than 16 deep",
    ),
    "a shape whose product does not fit": (
        lambda m: gemm(m, "attention:scores:forward").update(
            m=2**31 - 1,
            n=2**31 - 1,
            k=4,
            l=1,
            macs=1,
            a={**gemm(m, "attention:scores:forward")["a"], "shape": [1, 2**31 - 1, 4]},
            b={**gemm(m, "attention:scores:forward")["b"], "shape": [1, 2**31 - 1, 4]},
        ),
        "gemms['attention:scores:forward']: m*n*k*l does not fit 63 bits",
    ),
    "entries that are no list": (lambda m: m.update(gemms={}), "gemms: must be a list"),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_reader_refuses(lie, edited) -> None:
    edit, message = LIES[lie]
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        edited(edit)
    assert str(refusal.value).count("\n") == 0
    assert ".nmtrace/m" in str(refusal.value)


def test_an_infinite_loss_is_refused_even_where_json_can_spell_it(folder) -> None:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"loss": 0.25', '"loss": 1e999'))
    with pytest.raises(InputError, match=r"provenance.loss: must be finite"):
        read_trace(folder)


def test_shapes_alone_may_assume_a_structure(edited) -> None:
    def assume(manifest) -> None:
        manifest["provenance"]["kind"] = "shapes-only"
        gemm(manifest, "fc1:forward")["b"]["mask"] = None

    assert edited(assume).gemms[3].b.mask is None


def test_a_tile_wise_weight_is_backed_by_the_plan_of_its_density(edited) -> None:
    def tile_wise(manifest) -> None:
        gemm(manifest, "fc1:forward")["b"].update(structure="tile_wise", pattern=None, group_axis=None, mask=None)

    assert edited(tile_wise).gemms[3].b.structure == "tile_wise"


def test_huge_but_honest_shapes_cost_no_memory(edited) -> None:
    """A mask of 2**60 elements whose payload was left out is only numbers."""

    def grow(manifest) -> None:
        entry = gemm(manifest, "fc3:forward")
        side = 2**30
        entry.update(m=1, n=side, k=side, macs=side * side)
        entry["a"]["shape"], entry["b"]["shape"] = [1, side], [side, side]
        manifest["masks"]["fc3.weight"].update(shape=[side, side])
        manifest["masks"]["fc3.weight"]["checks"]["1"]["groups"] = side * side // 4

    assert edited(grow).masks["fc3.weight"].shape == (2**30, 2**30)


def test_a_stored_mask_of_a_claimed_huge_shape_is_refused_before_it_is_allocated(edited) -> None:
    with pytest.raises(InputError, match="a packed mask of shape"):
        edited(change_mask("fc2.weight", "shape", [2**31 - 1, 2**31 - 1]))
