"""`record`: the context manager around a training step, and the builder that holds what it saw."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nmsim.errors import InputError
from nmsim.sparsity.pattern import NMPattern
from nmsim.training.layers import SparseLayer
from nmsim.training.options import DEFAULT_DENSITIES, DEFAULT_PAYLOAD_LIMIT_BYTES
from nmsim.training.recorder.assemble import Assembler
from nmsim.training.recorder.capture import Capture
from nmsim.training.recorder.plans import own_density, tile_wise_plans
from nmsim.training.selection import prunable_layers
from nmsim.workload.gemm import MaskRecord
from nmsim.workload.store import write_trace
from nmsim.workload.trace import Operator, Provenance, ProvenanceKind, SparsifyPass, TileWisePlan, Trace


class TraceBuilder:
    """What `record` saw of a step; filled when its `with` block ends."""

    def __init__(self, model: nn.Module, payload_limit_bytes: int, tile_wise_densities: Sequence[str], least_share: float) -> None:
        self._model, self._payload_limit_bytes, self._tile_wise_densities = model, payload_limit_bytes, tile_wise_densities
        self._least_share = least_share
        self._operators: tuple[Operator, ...] = ()
        self._assembler: Assembler | None = None
        self._batch = 0

    def fill(self, operators: tuple[Operator, ...], assembler: Assembler, batch: int) -> None:
        """Called by `record` with the finished step; what the capture kept alive meanwhile is let go."""
        self._operators, self._assembler, self._batch = operators, assembler, batch

    def trace(
        self,
        name: str,
        *,
        kind: ProvenanceKind = "trained",
        model: str | None = None,
        dataset: str = "",
        recipe: str = "",
        hyper_parameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        step: int = 0,
        loss: float | None = None,
        accuracy: float | None = None,
        command: str = "",
        notes: tuple[str, ...] = (),
    ) -> Trace:
        """The recorded step as a trace, with what the caller knows of its provenance (`model`: the class's name if not given).

        InputError before the step has run.
        """
        if self._assembler is None:
            raise InputError("nothing is recorded yet", fix="ask for the trace after the with block")
        records, payloads = self._assembler.shelf.records(self._payload_limit_bytes)
        own, tile_wise = self._tile_wise(records)
        gemms = self._assembler.gemms()
        return Trace(
            name=name,
            provenance=Provenance(
                kind=kind,
                model=model or type(self._model).__name__,
                dataset=dataset,
                recipe=recipe,
                hyper_parameters=dict(hyper_parameters or {}),
                seed=seed,
                step=step,
                loss=loss,
                accuracy=accuracy,
                versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
                command=command,
                notes=notes,
            ),
            batch=self._batch,
            dtype=_commonest([gemm.dtype for gemm in gemms]),
            gemms=gemms,
            operators=self._operators,
            passes=self._passes(),
            masks=records,
            payloads=payloads,
            tile_wise=tile_wise,
            own_density=own,
        )

    def write(self, path: str | Path, keep_weights: bool = False, **provenance: Any) -> Trace:
        """Writes the trace to `path` (NAME.nmtrace) and returns it; `provenance` as in `trace`.

        `keep_weights` also stores the master weights of the layers that the tile-wise baseline ranks, float16 [K, N].
        """
        trace = self.trace(Path(path).name.removesuffix(".nmtrace"), **provenance)
        write_trace(trace, path, self.half_precision_weights() if keep_weights else None)
        return trace

    def half_precision_weights(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """The master weights that the tile-wise baseline ranks, float16 [K, N] by module."""
        return {name: weight.astype(numpy.float16) for name, weight in self._weights_to_rank().items()}

    def _tile_wise(self, records: Mapping[str, MaskRecord]) -> tuple[str | None, dict[str, dict[str, TileWisePlan]]]:
        """(the trace's own density, plans by density): a recipe's own tile-wise plans stand where it made some."""
        assembler = self._assembler
        assert assembler is not None, "trace() has checked it"
        recorded = assembler.tile_wise
        own = next(iter(recorded.values()))[0] if recorded else own_density(records.values())
        plans = tile_wise_plans(self._weights_to_rank(), own, self._tile_wise_densities, self._least_share)
        if recorded and own is not None:
            plans[own] = {module: plan for module, (_, plan) in recorded.items()}
        return own, plans

    def _passes(self) -> tuple[SparsifyPass, ...]:
        layers = [module for module in self._model.modules() if isinstance(module, SparseLayer)]
        return tuple(one for layer in layers for one in layer.recipe.passes(layer))

    def _weights_to_rank(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """Master weights [K, N] of the pruned layers, or of a dense step those that the convention would prune."""
        assembler = self._assembler
        assert assembler is not None, "trace() has checked it"
        chosen = assembler.pruned or set(prunable_layers(self._model))
        return {module: weight for module, weight in assembler.weights.items() if module in chosen}


@contextmanager
def record(
    model: nn.Module,
    *,
    pattern: NMPattern | None = None,
    masks: Mapping[str, Any] | None = None,
    batch: int | None = None,
    tile_wise: bool = True,
    tile_wise_densities: Sequence[str] = DEFAULT_DENSITIES,
    tile_wise_least_share: float = 0.0,
    payload_limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES,
) -> Iterator[TraceBuilder]:
    """Records one training step of `model`, all of it inside the `with` block: forward, loss, backward, optimiser.

    `masks` maps a parameter's name or a module's path to its mask; without it masks are found where training libraries keep
    them, else from the zeros of the weights. `pattern` is inferred if not given. `batch` is the samples of the step (the first
    axis of the model's first input if not given). The tile-wise baseline is planned at `tile_wise_densities` and the pattern's
    own, each layer keeping at least `tile_wise_least_share` of its elements; `tile_wise=False` leaves the baseline out, which spares a
    copy of the weights. Packed masks beyond `payload_limit_bytes` in total
    are checked and left out. Attention runs as its math products.
    InputError for operators whose GEMMs the recorder does not know, and for a block in which nothing was multiplied.
    """
    builder = TraceBuilder(model, payload_limit_bytes, tile_wise_densities, tile_wise_least_share)
    assembler = Assembler(model, masks or {}, pattern, keep_weights=tile_wise)
    with _math_attention(), Capture(model, assembler.take_product, assembler.take_convolution) as capture:
        yield builder
    if not assembler.gemms():
        raise InputError("no GEMM ran inside record()", fix="put the forward and backward of the model inside the with block")
    samples = batch or capture.first_batch
    if samples is None:
        raise InputError("the batch could not be read from the model's inputs", fix="give record(model, batch=...)")
    builder.fill(capture.operators.operators(), assembler, samples)


@contextmanager
def _math_attention() -> Iterator[None]:
    """Attention as matrix products in the compute type: a fused kernel would hide its GEMMs, and math would widen them to fp32."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def _commonest(names: list[str]) -> str:
    return max(dict.fromkeys(names), key=names.count)
