"""A mask as bytes: how a trace stores it, and the digest by which it is known.

The last axis is packed eight elements to a byte, the lowest index in the lowest bit; each row is padded with zero bits to a
whole byte. A reader can therefore prove that nothing hides in the padding, and equal masks have equal bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmsim.errors import InputError
from nmsim.sparsity.groups import require_mask


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mask [..., L] -> uint8 [..., ceil(L / 8)]."""
    return np.packbits(require_mask(mask), axis=-1, bitorder="little")


def unpack_mask(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Packed rows -> the bool mask of `shape`.

    InputError where the bytes are not those of a mask of that shape: another type or length, or a padding bit that is set.
    """
    if not shape or any(size < 0 for size in shape):
        raise InputError("the shape of a mask is one or more sizes >= 0", path="shape", value=shape)
    expected = (*shape[:-1], -(-shape[-1] // 8))
    if packed.dtype != np.uint8 or packed.shape != expected:
        raise InputError(
            f"a packed mask of shape {list(shape)} is uint8 of shape {list(expected)}", value=f"{packed.dtype.name} {list(packed.shape)}"
        )
    used_bits = shape[-1] % 8
    if used_bits and (packed[..., -1] >> used_bits).any():
        raise InputError(f"a padding bit of the packed mask of shape {list(shape)} is set", fix="pad each row with zero bits")
    return np.unpackbits(packed, axis=-1, count=shape[-1], bitorder="little").view(np.bool_)


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """sha256 (hex) of the shape, written as "[O,I]", and the packed bytes: equal only for equal masks of equal shape."""
    packed = pack_mask(mask)
    shape = ",".join(str(size) for size in mask.shape)
    return hashlib.sha256(f"[{shape}]".encode() + packed.tobytes()).hexdigest()
