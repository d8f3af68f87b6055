"""Packed masks and weights in safetensors files: sizes are checked in the header, before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nmsim.errors import InputError
from nmsim.sparsity.packing import unpack_mask


def write_tensors(arrays: dict[str, NDArray[Any]], file: Path) -> None:
    """Writes named arrays; equal arrays give equal bytes, in whatever order they were named."""
    file.write_bytes(save({key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}))


@contextmanager
def open_tensors(file: Path, shown_as: Path) -> Iterator[Any]:
    """The opened file; InputError, naming it `shown_as`, where it is missing, truncated or malformed."""
    if not file.is_file():
        raise InputError("the file is missing", file=shown_as, fix="copy the whole folder of the trace")
    try:
        with safe_open(file, framework="numpy") as tensors:
            yield tensors
    except SafetensorError as error:
        raise InputError(f"is not a whole safetensors file ({error})", file=shown_as, fix="copy or record it again") from None


def read_mask(tensors: Any, key: str, shape: tuple[int, ...], shown_as: Path) -> NDArray[np.bool_]:
    """The packed mask `key`, unpacked to bool of `shape`, read-only."""
    if key not in tensors.keys():  # noqa: SIM118 - an open safetensors file is no mapping
        raise InputError("a mask that the manifest names is missing", file=shown_as, value=key, fix="copy or record it again")
    header = tensors.get_slice(key)
    packed_shape = [*shape[:-1], -(-shape[-1] // 8)]
    if header.get_dtype() != "U8" or list(header.get_shape()) != packed_shape:
        stored = f"{header.get_dtype()} {list(header.get_shape())}"
        raise InputError(
            f"a packed mask of shape {list(shape)} is U8 {packed_shape}", file=shown_as, path=key, value=stored, fix="record it again"
        )
    try:
        mask = unpack_mask(tensors.get_tensor(key), shape)
    except InputError as error:
        raise InputError(error.problem, file=shown_as, path=key, fix=error.fix) from None
    mask.flags.writeable = False
    return mask


def read_weights_file(file: Path) -> dict[str, NDArray[np.float16]]:
    """All weights of a file by module, read-only; InputError unless each is finite float16."""
    weights = {}
    with open_tensors(file, file) as tensors:
        for key in sorted(tensors.keys()):
            dtype = tensors.get_slice(key).get_dtype()
            if dtype != "F16":
                raise InputError("master weights are float16", file=file, path=key, value=dtype)
            weight = tensors.get_tensor(key)
            if not np.isfinite(weight).all():
                raise InputError("the weight is not finite", file=file, path=key)
            weight.flags.writeable = False
            weights[key] = weight
    return weights
