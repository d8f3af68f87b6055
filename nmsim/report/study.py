"""Many runs as one study: a row a point x scheme (and x phase), with what figures across runs need beside the stored sums."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nmsim.errors import InputError
from nmsim.report.formats import kept_density, pruned_products
from nmsim.report.labels import grouped
from nmsim.result.frames import kernels_frame, key_of
from nmsim.result.points import POINT_COLUMNS, Coordinates, is_sweep, read_points, result_records, totals_of
from nmsim.result.rows import SimulationResult
from nmsim.result.schema import STALL_COLUMNS
from nmsim.result.store import MANIFEST, read_results
from nmsim.sparsity.pattern import NMPattern

AXES = ("arch", "workload", "recipe", "pattern", "batch", "dtype", "l2")
"""What points may differ in, beside the overrides."""
SAME_NETWORK = ["arch", "overrides", "workload", "recipe", "trace", "batch", "dtype", "l2"]
"""Points that agree in these differ in the pattern alone."""

Record = dict[str, Any]
PRODUCT_SUMS = ("time_us", "launch_us", "energy_j", "cycles", "busy_cycles", *STALL_COLUMNS.values())
_IDENTITY = ("arch_key", "trace_key", "model_version", "provenance", "sources_json")


@dataclass(frozen=True)
class Study:
    """Points x schemes of a sweep, or of several stored runs, in their order.

    Both frames have the columns of `nmsim.result.points.POINT_COLUMNS` and: `machine` (the architecture and what was set of
    it), `density` (N/M, 1 for dense, missing where layers differ), `held_out_accuracy` (missing where nobody trained this),
    `steps` of the training and its `schedule` (pairs of steps and the trace of such a step, empty if unknown);
    `totals` also has `speedup_vs_dense` and `speedup_vs_tile_wise`.
    """

    totals: pd.DataFrame
    phases: pd.DataFrame
    products: pd.DataFrame
    """A row a point x scheme: the sums of PRODUCT_SUMS over the GEMMs that run the point's pattern when traced, and their clock.

    `native` is what those GEMMs ran: the pattern, or others that contain it. A point in which none ran sparse has no row.
    """
    pruned: pd.DataFrame
    """A row a point x scheme x phase: the layers that any scheme prunes (`nmsim.report.formats.pruned_products`), and `kept`.

    `kept` is the share of weights that the kernels of a scheme say they keep (`kept_density`); missing for N:M and dense.
    """
    failed: pd.DataFrame
    """A row a point that could not be simulated."""
    identities: pd.DataFrame
    """A row a point: `arch`, `machine`, `arch_key`, `trace`, `trace_key`, `model_version`, `provenance` in a sentence, `sources_json`."""

    @property
    def traced(self) -> pd.DataFrame:
        """The rows of the traced scheme: one a point."""
        return self.totals[self.totals["scheme"] == "traced"].reset_index(drop=True)


def read_study(directory: Path) -> Study:
    """The study that a folder of results holds. InputError where there is none, or where every point failed."""
    if not is_sweep(directory):
        return study_of(read_results(directory))
    points = read_points(directory)
    keys = list(dict.fromkeys(points.loc[points["status"] == "ok", "point_key"]))
    if not keys:
        reason = f"; the first says: {points['error'].iloc[0]}" if len(points) else ""
        raise InputError(f"no point of this sweep has a result{reason}", file=directory, fix="run `nmsim sweep` again")
    context = {key: _context(_runs_record(directory / key), _provenance(directory / key / MANIFEST)) for key in keys}
    patterns = points.drop_duplicates("point_key").set_index("point_key")["pattern"]
    kernels = {key: _kernels(directory / key) for key in keys}
    return _study(points, context, {key: str(patterns[key]) for key in keys}, kernels)


def study_of(results: Sequence[SimulationResult]) -> Study:
    """The study of runs at hand."""
    records: list[Record] = []
    for result in results:
        records += result_records(key_of(result), key_of(result), _coordinates(result), result)
    points = pd.DataFrame.from_records(records, columns=list(POINT_COLUMNS))
    patterns = {key_of(result): _coordinates(result).pattern for result in results}
    kernels = {key_of(result): kernels_frame([result]) for result in results}
    context = {
        key_of(result): _context(vars(result) | {"sources_json": json.dumps(dict(result.sources))}, dict(result.provenance))
        for result in results
    }
    return _study(points, context, patterns, kernels)


def best_points(study: Study, most: int) -> list[str]:
    """Keys of the points worth a look: the sparse step of greatest speed-up, then the first sparse one, then by speed-up, dense last."""
    traced = study.traced.assign(is_dense=study.traced["density"] == 1)
    ranked = traced.sort_values(["is_dense", "speedup_vs_dense"], ascending=[True, False], kind="stable", na_position="last")
    first = traced.sort_values("is_dense", kind="stable")["point_key"].iloc[0]
    keys = list(ranked["point_key"])
    return list(dict.fromkeys([*keys[:1], first, *keys[1:]]))[:most]


def point_names(study: Study) -> dict[str, str]:
    """A name for each point: `gpt_w512, sr-ste, 2:4 on ampere sm.count=144`."""
    traced = study.traced
    axes = [axis for axis in varying(traced) if axis not in ("arch", "workload", "recipe", "pattern")]
    return {
        str(row["point_key"]): ", ".join(
            (
                str(row["workload"]),
                str(row["recipe"]),
                *([str(row["pattern"])] if row["pattern"] != row["recipe"] else []),
                *_words(row, axes),
            )
        )
        + f" on {row['machine']}"
        for row in traced.to_dict("records")
    }


def density_of(pattern: str) -> float | None:
    """N/M of a pattern's text; 1 for dense, None for one that is neither."""
    if pattern == "dense":
        return 1.0
    try:
        return float(NMPattern.parse(pattern).density)
    except InputError:
        return None


def overrides_of(text: str) -> dict[str, str]:
    """`sm.count=144 l2.size_mb=80` as a mapping."""
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


def varying(frame: pd.DataFrame) -> list[str]:
    """The axes on which the rows of a frame differ."""
    return [axis for axis in AXES if frame[axis].nunique() > 1]


def _products(key: str, pattern: str, kernels: pd.DataFrame) -> pd.DataFrame:
    """A point's rows of `Study.products`; of a pattern that the machine runs as others, all GEMMs that ran sparse."""
    sparse = kernels[(kernels["scheme"] == "traced") & kernels["ran_sparse"]]
    exact = sparse[sparse["native_pattern"] == pattern]
    ran = exact if len(exact) else sparse
    chosen = kernels[kernels["gemm_id"].isin(ran["gemm_id"])]
    sums = chosen.groupby("scheme", sort=False)
    found = sums[list(PRODUCT_SUMS)].sum().assign(clock_mhz=sums["clock_mhz"].first(), gemms=sums.size())
    return found.reset_index().assign(point_key=key, native=", ".join(dict.fromkeys(ran["native_pattern"])))


def _pruned(key: str, kernels: pd.DataFrame) -> pd.DataFrame:
    """A point's rows of `Study.pruned`."""
    kept = {scheme: kept_density(rows["reason"]) for scheme, rows in kernels.groupby("scheme", sort=False)}
    found = pruned_products(kernels)
    return found.assign(point_key=key, kept=found["scheme"].map(kept).astype(float))


def _study(points: pd.DataFrame, context: dict[str, Record], patterns: Mapping[str, str], kernels: Mapping[str, pd.DataFrame]) -> Study:
    """The study of points; `patterns` and `kernels` are those of the points that are done, by key."""
    products = pd.concat([_products(key, patterns[key], frame) for key, frame in kernels.items()], ignore_index=True)
    pruned = pd.concat([_pruned(key, frame) for key, frame in kernels.items()], ignore_index=True)
    is_done = points["status"] == "ok"
    totals = _with_context(totals_of(points[is_done]), context)
    identities = totals.drop_duplicates("point_key")[["arch", "machine", "trace"]]
    said = [context.get(key, {}) for key in totals.drop_duplicates("point_key")["point_key"]]
    identities = identities.assign(**{name: [str(one.get(name, "")) for one in said] for name in _IDENTITY}).reset_index(drop=True)
    failed = points[~is_done].reset_index(drop=True)
    return Study(totals, _with_context(points[is_done], context), products, pruned, failed, identities)


def _with_context(frame: pd.DataFrame, context: dict[str, Record]) -> pd.DataFrame:
    said = [context.get(key, {}) for key in frame["point_key"]]
    accuracy = pd.Series([one.get("accuracy") for one in said], index=frame.index, dtype=float)
    return frame.assign(
        machine=[f"{arch} {sets}".strip() for arch, sets in zip(frame["arch"], frame["overrides"], strict=True)],
        density=pd.Series([density_of(pattern) for pattern in frame["pattern"]], index=frame.index, dtype=float),
        held_out_accuracy=accuracy.where(frame["accuracy"] == "trained"),
        steps=pd.Series([one.get("steps") for one in said], index=frame.index, dtype=float),
        schedule=[one.get("schedule", ()) for one in said],
    ).reset_index(drop=True)


def _context(run: Mapping[str, Any], provenance: Record) -> Record:
    """What the tables of a point do not say of it."""
    words = [str(provenance[name]) for name in ("kind", "model", "recipe") if provenance.get(name)]
    if (steps := _number(provenance.get("step"))) is not None:
        words.append(f"{steps:.0f} steps")
    return {
        "accuracy": _number(provenance.get("accuracy")),
        "steps": steps,
        "provenance": ", ".join(words),
        "schedule": _schedule(provenance.get("schedule")),
        **{name: run.get(name, "") for name in _IDENTITY if name != "provenance"},
    }


def _kernels(folder: Path) -> pd.DataFrame:
    """The kernels of one point; InputError where its table can't be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["gemm_id", "module", "phase", "scheme", "ran_sparse", "reason", "native_pattern", "clock_mhz", *PRODUCT_SUMS]
    try:
        frame: pd.DataFrame = pq.read_table(folder / "kernels.parquet", partitioning=None, columns=columns).to_pandas()
    except (OSError, pa.ArrowException):
        fix = "delete the folder of the point and run the sweep again"
        raise InputError("the kernels table is missing or damaged", file=folder / "kernels.parquet", fix=fix) from None
    return frame


def _schedule(stages: object) -> tuple[tuple[float, str], ...]:
    """(steps, trace) of each stage of a run; empty where it is not known."""
    try:
        return tuple((float(stage["steps"]), str(stage["trace"])) for stage in stages)  # type: ignore[attr-defined]
    except (TypeError, LookupError, ValueError):
        return ()


def _runs_record(folder: Path) -> Record:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Record] = pq.read_table(folder / "runs.parquet", partitioning=None).to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return rows[0] if rows else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _provenance(manifest: Path) -> Record:
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))["provenance"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _coordinates(result: SimulationResult) -> Coordinates:
    """Where a run of `nmsim simulate` would lie in a sweep; its pattern is the one that most of its sparse GEMM time ran."""
    sparse: dict[str, float] = {}
    for row in result.rows:
        if row.scheme == "traced" and row.ran_sparse:
            sparse[row.native_pattern] = sparse.get(row.native_pattern, 0.0) + row.time_us
    options = result.options
    batch = options.get("batch")
    return Coordinates(
        arch=result.arch,
        overrides="",
        workload=result.trace,
        recipe=str(result.provenance.get("recipe") or ""),
        trace=result.trace,
        pattern=max(sparse, key=lambda pattern: sparse[pattern]) if sparse else "dense",
        batch=batch if isinstance(batch, int) else 0,
        dtype=str(options.get("dtype") or ""),
        l2=str(options.get("l2") or ""),
        engine=result.engine,
    )


def short_key(key: str) -> str:
    """`shared_memory.banks` -> `banks`, `sm.register_read_bytes_per_cycle` -> `register_read`, `dram.bandwidth_gb_per_s` -> `dram`.

    The last part without its unit; of a part that is all unit, the block that holds it.
    """
    *blocks, last = key.split(".")
    stem = re.sub(r"_?(bytes|gb|gib|mib|cycles|mhz|us|ns|w|pj)?(_per_\w+)?$", "", last)
    return stem if stem not in ("", "bandwidth", "clock") or not blocks else blocks[-1]


def differing_words(frame: pd.DataFrame, also_pattern: bool = True) -> list[str]:
    """A short name for each row: the values of the axes in which the rows differ, and what of the first row's overrides changed.

    Keys go by a short name where no other has the same (see `short_key`), and `as it is` stands where nothing changed.
    """
    axes = [axis for axis in varying(frame) if also_pattern or axis != "pattern"]
    sets = [overrides_of(text) for text in frame["overrides"]]
    keys = [key for key in dict.fromkeys(key for one in sets for key in one) if len({one.get(key) for one in sets}) > 1]
    tails = [short_key(key) for key in keys]
    short = {key: tail if tails.count(tail) == 1 else key for key, tail in zip(keys, tails, strict=True)}
    names = []
    for record, one in zip(frame[list(AXES)].to_dict("records"), sets, strict=True):
        words = _words(record, axes)
        changed = [f"{short[key]}={one.get(key, 'as is')}" for key in keys if one.get(key) != sets[0].get(key)]
        words += changed or (["as it is"] if keys else [])
        names.append(", ".join(words) or str(record["arch"]))
    return names


def _words(record: Mapping[Hashable, Any], axes: Sequence[str]) -> list[str]:
    return [f"batch {grouped(record[axis])}" if axis == "batch" else str(record[axis]) for axis in axes]
