"""The plain data of `manifest.json` as a trace: types, ranges and keys; what the values mean together is `validate`'s.

Nothing is allocated from a size that the file states: the arrays come later, from the sizes of the stored tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from fractions import Fraction
from typing import Any, TypeVar, cast, get_args

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.units import BITS_PER_ELEMENT
from nmsim.workload import fields
from nmsim.workload.fields import Place, take_object
from nmsim.workload.gemm import PHASES, BatchAxis, ConvGeometry, Gemm, GroupCheck, MaskRecord, Operand, Phase, Role, StructureKind
from nmsim.workload.trace import SCHEMA, Operator, OperatorPhase, Provenance, ProvenanceKind, SparsifyPass, Trace

RESERVED_PREFIX = "tile_wise/"
"""Where tile-wise plans live beside the masks; no mask may be named so."""
MAX_RANK = 4
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AXIS = re.compile(r"[0-3]")
_DENSITY = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")
_PADS = ("pad_h", "pad_w")


@dataclass(frozen=True)
class PlanHeader:
    """Sizes and digest of a stored tile-wise plan: `columns` = N, `rows` = K, `tiles` of kept columns."""

    tile_width: int
    columns: int
    tiles: int
    rows: int
    digest: str


Entry = TypeVar("Entry")
PlanHeaders = dict[str, dict[str, PlanHeader]]
"""density -> module -> header."""


def decode_trace(data: Any, place: Place) -> tuple[Trace, PlanHeaders]:
    """The trace without its arrays, and what the manifest says of the tile-wise plans; InputError names the bad field."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(data, dict) and "schema" in data and schema != SCHEMA:
        raise place.key("schema").refusal("this version does not read it", schema, f"record the trace again as {SCHEMA}")
    top = take_object(data, place, ("schema", *(key for key in _keys(Trace) if key != "payloads")))
    trace = Trace(
        name=fields.take_name(top["name"], place.key("name")),
        provenance=_provenance(top["provenance"], place.key("provenance")),
        batch=fields.take_dimension(top["batch"], place.key("batch")),
        dtype=_dtype(top["dtype"], place.key("dtype")),
        gemms=_entries(top["gemms"], place.key("gemms"), _gemm),
        operators=_entries(top["operators"], place.key("operators"), _operator),
        passes=_entries(top["passes"], place.key("passes"), _pass),
        masks=_masks(top["masks"], place.key("masks")),
        own_density=None if top["own_density"] is None else _density(top["own_density"], place.key("own_density")),
        schedule=_entries(top["schedule"], place.key("schedule"), _schedule_entry),
        rescaled_from_batch=_optional_dimension(top["rescaled_from_batch"], place.key("rescaled_from_batch")),
    )
    return trace, _plan_headers(top["tile_wise"], place.key("tile_wise"))


def _keys(of: type[Any]) -> tuple[str, ...]:
    """The keys of an object in the manifest: the fields of its data class."""
    return tuple(field.name for field in dataclass_fields(of))


def _entries(value: Any, place: Place, decode: Callable[[Any, Place], Entry]) -> tuple[Entry, ...]:
    return tuple(decode(one, place.item(_entry_name(one, index))) for index, one in enumerate(fields.take_list(value, place)))


def _entry_name(value: Any, index: int) -> str | int:
    """How errors name an entry: by its id where it has a printable one, else by its place in the list."""
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= fields.MAX_NAME else index


def _provenance(value: Any, place: Place) -> Provenance:
    data = take_object(value, place, _keys(Provenance))
    hyper_parameters = fields.take_mapping(data["hyper_parameters"], place.key("hyper_parameters"))
    versions = fields.take_mapping(data["versions"], place.key("versions"))
    notes = fields.take_list(data["notes"], place.key("notes"))
    loss, accuracy = data["loss"], data["accuracy"]
    return Provenance(
        kind=cast(ProvenanceKind, fields.take_choice(data["kind"], place.key("kind"), get_args(ProvenanceKind))),
        model=fields.take_text(data["model"], place.key("model")),
        dataset=fields.take_text(data["dataset"], place.key("dataset")),
        recipe=fields.take_text(data["recipe"], place.key("recipe")),
        hyper_parameters=fields.take_free_data(hyper_parameters, place.key("hyper_parameters")),
        seed=fields.take_int(data["seed"], place.key("seed"), -(2**63), 2**64 - 1),
        step=fields.take_count(data["step"], place.key("step")),
        loss=None if loss is None else fields.take_float(loss, place.key("loss")),
        accuracy=None if accuracy is None else fields.take_float(accuracy, place.key("accuracy"), 0, 1),
        versions={
            fields.take_name(name, place.key("versions")): fields.take_text(text, place.key("versions").item(name))
            for name, text in versions.items()
        },
        command=fields.take_text(data["command"], place.key("command")),
        notes=tuple(fields.take_text(note, place.key("notes").item(i)) for i, note in enumerate(notes)),
    )


def _gemm(value: Any, place: Place) -> Gemm:
    data = take_object(value, place, _keys(Gemm))
    sizes = {dimension: fields.take_dimension(data[dimension], place.key(dimension)) for dimension in "mnkl"}
    return Gemm(
        id=fields.take_name(data["id"], place.key("id")),
        module=fields.take_name(data["module"], place.key("module")),
        phase=cast(Phase, fields.take_choice(data["phase"], place.key("phase"), PHASES)),
        **sizes,
        dtype=_dtype(data["dtype"], place.key("dtype")),
        out_dtype=_dtype(data["out_dtype"], place.key("out_dtype")),
        a=_operand(data["a"], place.key("a")),
        b=_operand(data["b"], place.key("b")),
        macs=fields.take_count(data["macs"], place.key("macs")),
        batch_axis=cast(BatchAxis, fields.take_choice(data["batch_axis"], place.key("batch_axis"), get_args(BatchAxis))),
        conv=None if data["conv"] is None else _conv(data["conv"], place.key("conv")),
        repeat=fields.take_dimension(data["repeat"], place.key("repeat")),
    )


def _operand(value: Any, place: Place) -> Operand:
    data = take_object(value, place, _keys(Operand))
    axes = fields.take_list(data["axes"], place.key("axes"))
    group_axis, mask, pattern = data["group_axis"], data["mask"], data["pattern"]
    return Operand(
        role=cast(Role, fields.take_choice(data["role"], place.key("role"), get_args(Role))),
        axes=tuple(fields.take_choice(axis, place.key("axes").item(i), ("m", "n", "k", "l")) for i, axis in enumerate(axes)),
        shape=_shape(data["shape"], place.key("shape")),
        structure=cast(StructureKind, fields.take_choice(data["structure"], place.key("structure"), get_args(StructureKind))),
        pattern=None if pattern is None else _pattern(pattern, place.key("pattern")),
        group_axis=None if group_axis is None else fields.take_int(group_axis, place.key("group_axis"), 0, MAX_RANK - 1),
        mask=None if mask is None else fields.take_name(mask, place.key("mask")),
    )


def _conv(value: Any, place: Place) -> ConvGeometry:
    data = take_object(value, place, _keys(ConvGeometry))
    sizes = {key: fields.take_dimension(data[key], place.key(key)) for key in data if key not in _PADS}
    pads = {key: fields.take_int(data[key], place.key(key), 0, fields.MAX_DIMENSION) for key in _PADS}
    return ConvGeometry(**sizes, **pads)


def _operator(value: Any, place: Place) -> Operator:
    data = take_object(value, place, _keys(Operator))
    return Operator(
        id=fields.take_name(data["id"], place.key("id")),
        name=fields.take_name(data["name"], place.key("name")),
        phase=cast(OperatorPhase, fields.take_choice(data["phase"], place.key("phase"), get_args(OperatorPhase))),
        bytes_read=fields.take_count(data["bytes_read"], place.key("bytes_read")),
        bytes_written=fields.take_count(data["bytes_written"], place.key("bytes_written")),
        flops=fields.take_count(data["flops"], place.key("flops")),
        count=fields.take_dimension(data["count"], place.key("count")),
        scales_with_batch=fields.take_bool(data["scales_with_batch"], place.key("scales_with_batch")),
    )


def _pass(value: Any, place: Place) -> SparsifyPass:
    data = take_object(value, place, _keys(SparsifyPass))
    return SparsifyPass(
        id=fields.take_name(data["id"], place.key("id")),
        kind=fields.take_name(data["kind"], place.key("kind")),
        module=fields.take_name(data["module"], place.key("module")),
        bytes_read=fields.take_count(data["bytes_read"], place.key("bytes_read")),
        bytes_written=fields.take_count(data["bytes_written"], place.key("bytes_written")),
        operations=fields.take_count(data["operations"], place.key("operations")),
        every_steps=fields.take_dimension(data["every_steps"], place.key("every_steps")),
        scales_with_batch=fields.take_bool(data["scales_with_batch"], place.key("scales_with_batch")),
    )


def _masks(value: Any, place: Place) -> dict[str, MaskRecord]:
    records = {}
    for key, one in fields.take_mapping(value, place).items():
        where = place.item(fields.take_name(key, place))
        if key.startswith(RESERVED_PREFIX):
            raise where.refusal("is the name of a tile-wise plan, not of a mask", fix=f"don't begin it with {RESERVED_PREFIX!r}")
        data = take_object(one, where, ("shape", "density", "digest", "payload", "checks"))
        checks = fields.take_mapping(data["checks"], where.key("checks"))
        records[key] = MaskRecord(
            shape=_shape(data["shape"], where.key("shape")),
            density=fields.take_float(data["density"], where.key("density"), 0, 1),
            digest=_digest(data["digest"], where.key("digest")),
            payload=fields.take_bool(data["payload"], where.key("payload")),
            checks={_axis(axis, where.key("checks")): _check(check, where.key("checks").item(axis)) for axis, check in checks.items()},
        )
    return records


def _check(value: Any, place: Place) -> GroupCheck:
    data = take_object(value, place, ("pattern", "groups", "violations"))
    return GroupCheck(
        pattern=_pattern(data["pattern"], place.key("pattern")),
        groups=fields.take_count(data["groups"], place.key("groups")),
        violations=fields.take_count(data["violations"], place.key("violations")),
    )


def _plan_headers(value: Any, place: Place) -> PlanHeaders:
    headers: PlanHeaders = {}
    for density, plans in fields.take_mapping(value, place).items():
        where = place.item(_density(density, place))
        headers[density] = {}
        for module, one in fields.take_mapping(plans, where).items():
            here = where.item(fields.take_name(module, where))
            data = take_object(one, here, ("tile_width", "columns", "tiles", "rows", "digest"))
            sizes = {key: fields.take_dimension(data[key], here.key(key)) for key in ("tile_width", "columns", "tiles", "rows")}
            headers[density][module] = PlanHeader(**sizes, digest=_digest(data["digest"], here.key("digest")))
    return headers


def _schedule_entry(value: Any, place: Place) -> dict[str, Any]:
    data = take_object(value, place, ("steps", "trace"))
    return {"steps": fields.take_dimension(data["steps"], place.key("steps")), "trace": fields.take_name(data["trace"], place.key("trace"))}


def _shape(value: Any, place: Place) -> tuple[int, ...]:
    shape = tuple(fields.take_dimension(size, place.item(i)) for i, size in enumerate(fields.take_list(value, place)))
    if not 1 <= len(shape) <= MAX_RANK:
        raise place.refusal(f"must have 1 to {MAX_RANK} sizes", value=value)
    return shape


def _pattern(value: Any, place: Place) -> NMPattern:
    try:
        return NMPattern.parse(value)
    except InputError as error:
        raise place.refusal(error.problem, value=value, fix=error.fix) from None


def _dtype(value: Any, place: Place) -> str:
    return fields.take_choice(value, place, tuple(BITS_PER_ELEMENT))


def _digest(value: Any, place: Place) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value) is not None:
        return value
    raise place.refusal("must be a sha256 in 64 hex digits", value=value)


def _axis(value: str, place: Place) -> int:
    if _AXIS.fullmatch(value) is None:
        raise place.refusal("is no axis of a mask", value=value, fix=f"write 0 to {MAX_RANK - 1}")
    return int(value)


def _density(value: Any, place: Place) -> str:
    match = _DENSITY.fullmatch(value) if isinstance(value, str) else None
    if match is not None and int(match[1]) < int(match[2]) and str(Fraction(int(match[1]), int(match[2]))) == value:
        return match.string
    raise place.refusal("is no density", value=value, fix="write a fraction below 1 in lowest terms, for example 1/2")


def _optional_dimension(value: Any, place: Place) -> int | None:
    return None if value is None else fields.take_dimension(value, place)
