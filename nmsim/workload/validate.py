"""Does a trace tell the truth: ids, shapes, MACs and structures that a step of real GEMMs must have.

Findings come as InputErrors that name the entry, the field, the value and the mend; the reader raises the first,
`nmsim trace check` lists them all. What masks and tile-wise plans must obey is in `validate_masks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nmsim.errors import InputError
from nmsim.workload import shapes
from nmsim.workload.fields import MAX_COUNT, MAX_DIMENSION, Place
from nmsim.workload.gemm import ConvGeometry, Gemm, Operand
from nmsim.workload.trace import Trace
from nmsim.workload.validate_masks import mask_findings, plan_findings


def trace_findings(trace: Trace, file: Path | None = None) -> Iterator[InputError]:
    """Every way in which `trace` (arrays included) contradicts itself, as errors that nobody has raised yet."""
    root = Place(file)
    yield from _id_findings(trace, root)
    for gemm in trace.gemms:
        yield from gemm_findings(gemm, trace, root.key("gemms").item(gemm.id))
    yield from mask_findings(trace, root.key("masks"))
    yield from plan_findings(trace, root.key("tile_wise"))


def gemm_findings(gemm: Gemm, trace: Trace, place: Place) -> Iterator[InputError]:
    """What is wrong with one entry: roles, operand shapes, MACs, batch axis, structures."""
    shaped = list(_role_findings(gemm, place))
    if not shaped:
        shaped = list(_linear_findings(gemm, place) if gemm.conv is None else _conv_findings(gemm, gemm.conv, place))
    yield from shaped
    if shaped:
        return
    hand_count = shapes.hand_count_macs(gemm.phase, (gemm.m, gemm.n, gemm.k, gemm.l), gemm.conv)
    if hand_count > MAX_COUNT:
        yield place.refusal("m*n*k*l does not fit 63 bits", value=hand_count)
    elif gemm.macs != hand_count:
        yield place.key("macs").refusal("is not the hand count of the shape", gemm.macs, f"m*n*k*l gives {hand_count}")
    yield from _batch_axis_findings(gemm, place)
    for name, operand in (("a", gemm.a), ("b", gemm.b)):
        yield from _structure_findings(gemm, operand, trace, place.key(name))


def _id_findings(trace: Trace, root: Place) -> Iterator[InputError]:
    """One id names one entry, whatever its class: results are joined on it."""
    seen: set[str] = set()
    lists = (("gemms", trace.gemms), ("operators", trace.operators), ("passes", trace.passes))
    for field, entry in chain.from_iterable(((name, entry) for entry in entries) for name, entries in lists):
        if entry.id in seen:
            yield root.key(field).item(entry.id).key("id").refusal("another entry has this id", entry.id, "give each entry its own id")
        seen.add(entry.id)


def _role_findings(gemm: Gemm, place: Place) -> Iterator[InputError]:
    roles = sorted((gemm.a.role, gemm.b.role))
    allowed = {
        "forward": (["activation", "activation"], ["activation", "weight"]),
        "backward_data": (["activation", "gradient"], ["gradient", "weight"]),
        "backward_weight": (["activation", "gradient"],),
    }[gemm.phase]
    if roles not in allowed:
        known = " or ".join(" x ".join(pair) for pair in allowed)
        yield place.refusal(f"{gemm.phase} multiplies {known}", value=" x ".join(roles), fix="correct the phase or the roles")


def _linear_findings(gemm: Gemm, place: Place) -> Iterator[InputError]:
    """Operands of a plain or batched GEMM: each axis is as long as the dimension that runs along it."""
    sizes = {"m": gemm.m, "n": gemm.n, "k": gemm.k, "l": gemm.l}
    for name, operand, free in (("a", gemm.a, "m"), ("b", gemm.b, "n")):
        here = place.key(name)
        inner = operand.axes[1:] if operand.axes[:1] == ("l",) else operand.axes
        if sorted(inner) != sorted(("k", free)):
            yield here.key("axes").refusal(
                f"an operand {name} has the axes {free} and k, after a leading l in a batch", list(operand.axes), "correct the axes"
            )
        elif gemm.l > 1 and len(operand.axes) == 2:
            yield here.key("axes").refusal(f"l is {gemm.l} and the operand has no l axis", list(operand.axes), "store it as [l, ...]")
        elif operand.shape != tuple(sizes[axis] for axis in operand.axes):
            expected = [sizes[axis] for axis in operand.axes]
            yield here.key("shape").refusal(
                "contradicts m, n, k, l", list(operand.shape), f"the axes {', '.join(operand.axes)} are {expected} long"
            )


def _conv_findings(gemm: Gemm, geometry: ConvGeometry, place: Place) -> Iterator[InputError]:
    """Dimensions and operands of a convolution are what its geometry gives."""
    bad_geometry = _geometry_problem(geometry)
    if bad_geometry is not None:
        yield place.key("conv").refusal(bad_geometry)
        return
    expected = dict(zip("mnkl", shapes.conv_dimensions(gemm.phase, geometry), strict=True))
    for dimension, size in expected.items():
        if getattr(gemm, dimension) != size:
            yield place.key(dimension).refusal("contradicts the convolution's geometry", getattr(gemm, dimension), f"it gives {size}")
    for name, operand, right in zip("ab", (gemm.a, gemm.b), shapes.conv_operands(gemm.phase, geometry), strict=True):
        for field in ("role", "axes", "shape"):
            if getattr(operand, field) != getattr(right, field):
                yield (
                    place.key(name)
                    .key(field)
                    .refusal("contradicts the convolution's geometry", getattr(operand, field), f"it gives {getattr(right, field)!r}")
                )


def _geometry_problem(geometry: ConvGeometry) -> str | None:
    if geometry.in_channels % geometry.groups or geometry.out_channels % geometry.groups:
        return f"{geometry.groups} groups do not divide {geometry.in_channels} input and {geometry.out_channels} output channels"
    if geometry.out_height < 1 or geometry.out_width < 1:
        return "the kernel is larger than the padded image"
    return None


def _batch_axis_findings(gemm: Gemm, place: Place) -> Iterator[InputError]:
    for operand in (gemm.a, gemm.b):
        if operand.role == "weight" and gemm.batch_axis in operand.axes:
            yield place.key("batch_axis").refusal(
                "runs along the weight, which does not grow with the batch", gemm.batch_axis, "name the dimension that counts samples"
            )
    if gemm.conv is not None and gemm.batch_axis not in (shapes.batch_axis_of(gemm.phase), "none"):
        fix = f"the images of {gemm.phase} lie along {shapes.batch_axis_of(gemm.phase)}"
        yield place.key("batch_axis").refusal("is not where a convolution's images lie", gemm.batch_axis, fix)


def _structure_findings(gemm: Gemm, operand: Operand, trace: Trace, place: Place) -> Iterator[InputError]:
    """Pattern, group axis and mask belong to the structure, and the mask record backs it."""
    if operand.structure == "nm":
        if operand.pattern is None:
            yield place.key("pattern").refusal("an nm operand has a pattern", fix="write for example 2:4")
        if operand.group_axis is None or operand.group_axis >= len(operand.shape):
            yield place.key("group_axis").refusal("an nm operand names the stored axis that its groups run along", operand.group_axis)
            return
        if gemm.conv is not None and operand.role == "weight" and operand.group_axis not in (0, 3):
            yield place.key("group_axis").refusal("groups of a convolution weight [O, R, S, C] run along 0 or 3", operand.group_axis)
    elif operand.pattern is not None or operand.group_axis is not None:
        value = f"{operand.pattern}, axis {operand.group_axis}"
        yield place.refusal(f"a {operand.structure} operand has no N:M pattern and no group axis", value, "set both to null")
    if operand.structure == "dense" and operand.mask is not None:
        yield place.key("mask").refusal("a dense operand has no mask", operand.mask, "name its structure, or set the mask to null")
    elif operand.mask is not None:
        yield from _mask_link_findings(operand, operand.mask, trace, place)
    elif operand.structure != "dense" and trace.provenance.kind != "shapes-only" and not _has_plan(gemm, operand, trace):
        yield place.key("mask").refusal(
            f"a recorded {operand.structure} operand names its mask",
            fix="record the mask, or make the trace shapes-only, where structures are assumed",
        )


def _has_plan(gemm: Gemm, operand: Operand, trace: Trace) -> bool:
    """True where a tile-wise plan of the trace's own density stands for the mask."""
    plans = trace.tile_wise.get(trace.own_density or "", {})
    return operand.structure == "tile_wise" and operand.role == "weight" and gemm.module in plans


def _mask_link_findings(operand: Operand, mask: str, trace: Trace, place: Place) -> Iterator[InputError]:
    record = trace.masks.get(mask)
    if record is None:
        yield place.key("mask").refusal("there is no such mask", mask, "add it to masks")
        return
    if record.shape != operand.shape:
        yield place.key("mask").refusal(
            f"mask {mask!r} has shape {list(record.shape)}, the operand {list(operand.shape)}", fix="name the mask of this tensor"
        )
        return
    if operand.structure != "nm" or operand.group_axis is None:
        return
    check = record.checks.get(operand.group_axis)
    if check is None or check.pattern != operand.pattern:
        recorded = "none" if check is None else str(check.pattern)
        yield place.key("mask").refusal(
            f"no check of mask {mask!r} for {operand.pattern} along axis {operand.group_axis} was recorded",
            value=recorded,
            fix="record groups and violations for that pattern and axis",
        )


def within_limits(gemm: Gemm) -> bool:
    """True where every dimension and the MACs of a derived GEMM still fit what a trace may hold."""
    sizes = (gemm.m, gemm.n, gemm.k, gemm.l, *gemm.a.shape, *gemm.b.shape)
    return max(sizes) <= MAX_DIMENSION and gemm.macs <= MAX_COUNT
