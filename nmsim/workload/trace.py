"""A recorded training step: the GEMMs, the other operators, the sparsification passes, the masks, where it came from.

Plain frozen data. `nmsim.workload.store` reads and writes it as `NAME.nmtrace/` (manifest.json + masks.safetensors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmsim.workload.gemm import Gemm, MaskRecord

SCHEMA = "nmsim-trace/1"
ProvenanceKind = Literal["trained", "initialised", "shapes-only"]
OperatorPhase = Literal["forward", "backward", "optimizer"]


@dataclass(frozen=True)
class Provenance:
    """Where a trace came from; `accuracy` is on held-out data, in [0, 1], None where none was measured."""

    kind: ProvenanceKind
    model: str
    dataset: str
    recipe: str
    hyper_parameters: Mapping[str, Any]
    seed: int
    step: int
    loss: float | None
    accuracy: float | None
    versions: Mapping[str, str]
    command: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """A class of non-GEMM operators of the step (normalisation, softmax, element-wise, optimiser ...): memory-bound work.

    Bytes and flops are those of *one* of the `count` launches.
    """

    id: str
    name: str
    phase: OperatorPhase
    bytes_read: int
    bytes_written: int
    flops: int
    count: int
    scales_with_batch: bool


@dataclass(frozen=True)
class SparsifyPass:
    """Work that the recipe adds (mask_search, compress, transpose, mvue_sample, decay), run once every `every_steps` steps.

    `module` is the layer it serves; bytes and operations are those of one run.
    """

    id: str
    kind: str
    module: str
    bytes_read: int
    bytes_written: int
    operations: int
    every_steps: int = 1
    scales_with_batch: bool = False


@dataclass(frozen=True)
class TileWisePlan:
    """Tile-wise pruning of one weight at one density, in the terms of W[K, N] = W.T of the stored [O, ...] weight.

    `columns`: bool [N], the output columns kept; consecutive kept columns form tiles of `tile_width` (the last may be
    narrower). `rows`: bool [tiles, K], the reduction rows kept in each tile (K = R*S*C order for convolutions).
    """

    tile_width: int
    columns: NDArray[np.bool_]
    rows: NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """One recorded step. `batch` is in samples; `payloads[key]` is the bool mask of `masks[key]` where it was kept.

    `tile_wise[density][module]` holds the plans, density as a fraction text such as "1/2".
    """

    name: str
    provenance: Provenance
    batch: int
    dtype: str
    gemms: tuple[Gemm, ...]
    operators: tuple[Operator, ...] = ()
    passes: tuple[SparsifyPass, ...] = ()
    masks: Mapping[str, MaskRecord] = field(default_factory=dict)
    payloads: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    tile_wise: Mapping[str, Mapping[str, TileWisePlan]] = field(default_factory=dict)
    own_density: str | None = None
    schedule: tuple[Mapping[str, Any], ...] = ()
    rescaled_from_batch: int | None = None
