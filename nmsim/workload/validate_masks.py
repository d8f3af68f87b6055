"""Do the recorded masks and tile-wise plans tell the truth: payload against digest, density and group checks.

A mask that breaks its pattern is no lie as long as the recorded check says so: the GEMM then runs dense. Refused is
a record that says one thing where the payload, or arithmetic, says another.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from nmsim.errors import InputError
from nmsim.sparsity.legality import check_groups
from nmsim.sparsity.packing import mask_digest
from nmsim.workload.fields import Place
from nmsim.workload.gemm import GroupCheck, MaskRecord
from nmsim.workload.trace import TileWisePlan, Trace

DENSITY_TOLERANCE = 1e-6
"""How far a recorded density may be from the counted one: single precision at the recorder."""


def mask_findings(trace: Trace, place: Place) -> Iterator[InputError]:
    """What is wrong with the mask records, and with the payloads that they describe."""
    for key, record in trace.masks.items():
        here = place.item(key)
        findings = list(_record_findings(record, here))
        yield from findings
        if record.payload != (key in trace.payloads):
            stated = "is said to be stored and is not" if record.payload else "is said to be left out and is stored"
            yield here.key("payload").refusal(f"the mask {stated}", fix="make masks.safetensors and the manifest agree")
        elif record.payload and not findings:
            yield from _payload_findings(record, trace.payloads[key], here)
    for key in sorted(set(trace.payloads) - set(trace.masks)):
        yield place.refusal("a stored mask has no record", value=key, fix="record it, or leave it out of masks.safetensors")


def group_count(shape: tuple[int, ...], m: int, axis: int) -> int:
    """Groups of `m` along `axis` of a tensor of `shape`, each line's shorter tail counting as one."""
    return prod(shape) // shape[axis] * -(-shape[axis] // m)


def _record_findings(record: MaskRecord, place: Place) -> Iterator[InputError]:
    """What arithmetic alone can tell of a record: the number of groups, and the density that checked groups allow."""
    for axis, check in record.checks.items():
        here = place.key("checks").item(str(axis))
        if axis >= len(record.shape):
            yield here.refusal(f"a mask of shape {list(record.shape)} has no such axis")
            continue
        groups = group_count(record.shape, check.pattern.m, axis)
        if check.groups != groups:
            yield here.key("groups").refusal(f"a mask of shape {list(record.shape)} has {groups} groups there", check.groups)
        elif check.violations > check.groups:
            yield here.key("violations").refusal(f"there are only {check.groups} groups", check.violations)
        elif record.density > (bound := _density_bound(record.shape, axis, check)) + DENSITY_TOLERANCE:
            yield place.key("density").refusal(
                f"{check.violations} groups of {check.pattern} broken along axis {axis} allow at most {bound:.6g}",
                record.density,
                "record the check and the density of the same mask",
            )


def _density_bound(shape: tuple[int, ...], axis: int, check: GroupCheck) -> float:
    """The largest share of non-zeros that a mask with this many broken groups can have."""
    n, m = check.pattern.n, check.pattern.m
    full, tail = divmod(shape[axis], m)
    lines = prod(shape) // shape[axis]
    most = lines * (full * n + min(n, tail)) + check.violations * (m - n)
    return min(1.0, most / prod(shape))


def _payload_findings(record: MaskRecord, payload: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], place: Place) -> Iterator[InputError]:
    if payload.dtype != np.bool_ or payload.shape != record.shape:
        stored = f"{payload.dtype.name} {list(payload.shape)}"
        yield place.key("shape").refusal(f"the stored mask is {stored}", list(record.shape), "store the mask as bool of the recorded shape")
        return
    digest = mask_digest(payload)
    if digest != record.digest:
        fix = f"the payload's is {digest}: one of the two was changed after recording"
        yield place.key("digest").refusal("is not the digest of the stored mask", record.digest, fix)
    density = int(np.count_nonzero(payload)) / payload.size
    if abs(density - record.density) > DENSITY_TOLERANCE:
        yield place.key("density").refusal("is not the density of the stored mask", record.density, f"the payload's is {density:.6g}")
    for axis, check in record.checks.items():
        found = check_groups(payload, check.pattern, axis).violations
        if found != check.violations:
            yield (
                place.key("checks")
                .item(str(axis))
                .key("violations")
                .refusal(f"the stored mask breaks {found} groups of {check.pattern} there", check.violations, "record what the mask does")
            )


def plan_findings(trace: Trace, place: Place) -> Iterator[InputError]:
    """What is wrong with the tile-wise plans: their lengths against the weights, their tiles against the kept columns."""
    if not trace.tile_wise:
        return
    weights = _weight_sizes(trace)
    for density, plans in trace.tile_wise.items():
        for module, plan in plans.items():
            yield from _plan_findings(plan, weights.get(module), place.item(density).item(module))


def _weight_sizes(trace: Trace) -> dict[str, tuple[int, int]]:
    """module -> (N, K) of its weight as W[K, N], taken from its forward GEMM; convolution groups lie side by side in N."""
    return {
        gemm.module: (gemm.n * gemm.l, gemm.k) for gemm in trace.gemms if gemm.phase == "forward" and "weight" in (gemm.a.role, gemm.b.role)
    }


def _plan_findings(plan: TileWisePlan, weight: tuple[int, int] | None, place: Place) -> Iterator[InputError]:
    if weight is None:
        yield place.refusal("no forward GEMM of this module holds a weight", fix="name a module of the trace, or drop the plan")
        return
    if plan.tile_width < 1:
        yield place.key("tile_width").refusal("a tile is at least one column wide", plan.tile_width)
        return
    if plan.columns.dtype != np.bool_ or plan.rows.dtype != np.bool_ or plan.columns.ndim != 1 or plan.rows.ndim != 2:
        yield place.refusal("a plan is columns bool [N] and rows bool [tiles, K]")
        return
    for field, length, size in (("columns", plan.columns.shape[0], weight[0]), ("rows", plan.rows.shape[1], weight[1])):
        if length != size:
            yield place.key(field).refusal(f"the weight of this module has {size}", length, "plan the recorded weight")
    kept = int(np.count_nonzero(plan.columns))
    tiles = -(-kept // plan.tile_width)
    if plan.rows.shape[0] != tiles:
        fix = f"{kept} kept columns make {tiles} tiles of {plan.tile_width}"
        yield place.key("tiles").refusal("is not the number of tiles", plan.rows.shape[0], fix)
