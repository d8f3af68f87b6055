"""May this GEMM use the structure of this operand: decided from the mask itself, never from a recipe's name.

The mask is checked along the stored axis that the GEMM reduces over. Where the payload was left out, the checks made
at recording stand for it; where there never was a mask, the structure is an assumption and is said to be one.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmsim.sparsity.legality import GroupReport, check_groups
from nmsim.sparsity.pattern import NMPattern
from nmsim.workload.gemm import Gemm, MaskRecord, Operand
from nmsim.workload.trace import Trace

Source = Literal["mask", "verified-at-record", "assumed", "none"]

_SYMBOLS = {"weight": "W", "activation": "X", "gradient": "dY"}
_WORDS = {
    "forward": {"m": "tokens (m)", "n": "outputs (n)", "k": "inputs (k)", "l": "batch (l)"},
    "backward_data": {"m": "tokens (m)", "n": "inputs (n)", "k": "outputs (k)", "l": "batch (l)"},
    "backward_weight": {"m": "outputs (m)", "n": "inputs (n)", "k": "tokens (k)", "l": "batch (l)"},
}
_CacheKey = tuple[int, int, NMPattern, int]
_reports: dict[_CacheKey, GroupReport] = {}


@dataclass(frozen=True)
class Usable:
    """Whether a GEMM may use an operand's N:M structure, in which pattern, and in plain words why or why not.

    `source`: `mask` (the payload was checked), `verified-at-record` (the recorder's checks stand for it), `assumed` (no
    mask: shapes only, or `--pattern`), `none` (there is no structure to check).
    """

    ok: bool
    pattern: NMPattern | None
    reason: str
    source: Source


def is_attention_product(gemm: Gemm) -> bool:
    """True for a product of two activations, or the gradient of one: there is no weight in it."""
    return gemm.phase != "backward_weight" and "weight" not in (gemm.a.role, gemm.b.role)


def usable_structure(gemm: Gemm, operand: Operand, trace: Trace, pattern: NMPattern | None = None) -> Usable:
    """May `gemm` run with `operand` (its own `a` or `b`) N:M sparse?

    `pattern` is the one that the hardware would run; unless given, the recorded one. What counts is whether the mask
    obeys it along `operand.reduction_axis`: a mask recorded for another phase may well do so.
    """
    pattern = pattern or operand.pattern
    if operand.structure == "dense":
        return Usable(False, None, _why_dense(gemm, operand), "none")
    if pattern is None:
        symbol = _symbol(gemm, operand)
        return Usable(False, None, f"{symbol} is {operand.structure.replace('_', '-')}: it was recorded with no N:M pattern", "none")
    record = None if operand.mask is None else trace.masks.get(operand.mask)
    if operand.mask is None or record is None:
        return _assumed(gemm, operand, pattern)
    payload = trace.payloads.get(operand.mask)
    if payload is None:
        return _from_record(gemm, operand, record, pattern)
    return _from_mask(gemm, operand, payload, pattern)


def _why_dense(gemm: Gemm, operand: Operand) -> str:
    if is_attention_product(gemm):
        return "attention product: neither operand is a weight"
    if gemm.phase == "backward_weight" and gemm.a.structure == gemm.b.structure == "dense":
        return "no operand is sparse: backward_weight has no weight in it"
    return f"{_symbol(gemm, operand)} is dense"


def _assumed(gemm: Gemm, operand: Operand, pattern: NMPattern) -> Usable:
    symbol = _symbol(gemm, operand)
    if operand.pattern is None or not pattern.contains(operand.pattern):
        assumed = operand.pattern or operand.structure.replace("_", "-")
        return Usable(False, pattern, f"{symbol} is assumed {assumed}, which {pattern} does not hold", "assumed")
    if operand.group_axis != operand.reduction_axis:
        return Usable(False, pattern, _wrong_axis(gemm, operand), "assumed")
    along = _axis_words(gemm, operand, operand.reduction_axis)
    return Usable(True, pattern, f"{symbol} is assumed {operand.pattern} along {along}", "assumed")


def _from_record(gemm: Gemm, operand: Operand, record: MaskRecord, pattern: NMPattern) -> Usable:
    """What the recorded check of the reduction axis proves, the payload being left out."""
    source: Source = "verified-at-record"
    axis, symbol = operand.reduction_axis, _symbol(gemm, operand)
    check = record.checks.get(axis)
    along = _axis_words(gemm, operand, axis)
    wrong_axis = operand.group_axis not in (None, axis)
    if check is None:
        text = _wrong_axis(gemm, operand) if wrong_axis else f"{symbol} was recorded without its mask"
        return Usable(False, pattern, f"{text}: no check along {along} was recorded", source)
    run_length = record.shape[axis] // _blocks(gemm, operand)
    if run_length != record.shape[axis] and run_length % check.pattern.m:
        reason = f"groups of {symbol} straddle convolution groups of {run_length} along {along}: the recorded check does not apply"
        return Usable(False, pattern, reason, source)
    if check.violations:
        count = f"{check.violations:,} of {check.groups:,} groups"
        text = f"{_wrong_axis(gemm, operand)}: {count} there break" if wrong_axis else f"{symbol} was recorded with {count} that break"
        return Usable(False, pattern, f"{text} {check.pattern}", source)
    if not pattern.contains(check.pattern):
        reason = f"{symbol} was checked for {check.pattern} along {along}, which {pattern} does not hold"
        return Usable(False, pattern, reason, source)
    return Usable(True, pattern, f"all {check.groups:,} groups of {symbol} along {along} obeyed {check.pattern} when recorded", source)


def _from_mask(gemm: Gemm, operand: Operand, payload: NDArray[np.bool_], pattern: NMPattern) -> Usable:
    axis, symbol = operand.reduction_axis, _symbol(gemm, operand)
    blocks = _blocks(gemm, operand)
    report = _report(payload, pattern, axis, blocks)
    if report.violations == 0:
        along = _axis_words(gemm, operand, axis)
        return Usable(True, pattern, f"all {report.groups:,} groups of {symbol} along {along} obey {pattern}", "mask")
    if operand.group_axis not in (None, axis):
        reason = f"{_wrong_axis(gemm, operand)}: {report.violations:,} of {report.groups:,} groups there break {pattern}"
        return Usable(False, pattern, reason, "mask")
    where = _first_broken(payload, report, axis, blocks)
    more = "" if report.violations == 1 else f" ({report.violations:,} of {report.groups:,} groups of {symbol} are)"
    return Usable(False, pattern, f"{where}: broken {pattern}{more}", "mask")


def _report(payload: NDArray[np.bool_], pattern: NMPattern, axis: int, blocks: int) -> GroupReport:
    """The check of one mask along one axis, made once for a mask that can't change (as the reader hands them out)."""
    if payload.flags.writeable:
        return check_groups(_in_blocks(payload, axis, blocks), pattern, axis + (blocks > 1))
    key = (id(payload), axis, pattern, blocks)
    if key not in _reports:
        _reports[key] = check_groups(_in_blocks(payload, axis, blocks), pattern, axis + (blocks > 1))
        weakref.finalize(payload, _reports.pop, key, None)
    return _reports[key]


def _in_blocks(payload: NDArray[np.bool_], axis: int, blocks: int) -> NDArray[np.bool_]:
    """The mask with its reduction axis split into the blocks that no group may straddle."""
    if blocks == 1:
        return payload
    shape = payload.shape
    return payload.reshape(*shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :])


def _blocks(gemm: Gemm, operand: Operand) -> int:
    """Separate reductions along the reduction axis: a grouped convolution's `backward_data` reduces over O / groups at a time."""
    grouped = gemm.conv is not None and operand.role == "weight" and operand.reduction_axis == 0
    return gemm.conv.groups if grouped and gemm.conv is not None else 1


def _first_broken(payload: NDArray[np.bool_], report: GroupReport, axis: int, blocks: int) -> str:
    """`group 37 of row 5 keeps 3 of 4`; a row is what the groups of one line lie in, named by its other indices."""
    assert report.first_violation is not None
    first = report.first_violation
    start, m = first[report.axis], report.pattern.m
    line = _in_blocks(payload, axis, blocks)[tuple(slice(None) if i == report.axis else index for i, index in enumerate(first))]
    kept = int(np.count_nonzero(line[start : start + m]))
    others = [index for i, index in enumerate(first) if i != report.axis]
    name = "column" if axis == 0 and payload.ndim == 2 else "row"
    return f"group {start // m} of {name} {', '.join(map(str, others))} keeps {kept} of {m}"


def _wrong_axis(gemm: Gemm, operand: Operand) -> str:
    assert operand.group_axis is not None
    along, reduced = (_axis_words(gemm, operand, axis) for axis in (operand.group_axis, operand.reduction_axis))
    return f"groups of {_symbol(gemm, operand)} run along {along}; this GEMM reduces over {reduced}"


def _axis_words(gemm: Gemm, operand: Operand, axis: int) -> str:
    dimension = operand.axes[axis]
    return dimension if is_attention_product(gemm) else _WORDS[gemm.phase][dimension]


def _symbol(gemm: Gemm, operand: Operand) -> str:
    if is_attention_product(gemm):
        return "A" if operand is gemm.a else "B"
    return _SYMBOLS[operand.role]
