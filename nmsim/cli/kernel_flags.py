"""The flags of `nmsim gemm` that force one kernel, as the template that they stand for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nmsim.errors import InputError
from nmsim.rules.banks import PIECE_BYTES

if TYPE_CHECKING:
    from nmsim.arch.spec import TileSpec


def forced_tile(tile: str | None, warp: str | None, dtype: str, others: dict[str, int | str | None]) -> TileSpec | None:
    """The kernel template of `--cta MxNxK --warp MxN` (elements) and the flags in `others`; None where no tile is given.

    InputError where a flag says something about a kernel that is not there, or a value that no kernel has.
    """
    given = {name: value for name, value in others.items() if value is not None}
    if tile is None:
        for name in [*(["warp"] if warp else []), *given]:
            raise InputError("says how a kernel of your own is built, and there is none", path=f"--{name}", fix="give its --cta too")
        return None
    from pydantic import ValidationError

    from nmsim.arch.spec import TileSpec
    from nmsim.units import BITS_PER_ELEMENT

    m, n, k = _sides(tile, "--cta", "MxNxK")
    rows, columns = _sides(warp, "--warp", "MxN") if warp is not None else (-(-m // 2), -(-n // 2))
    if m % rows or n % columns:
        raise InputError(f"does not divide the tile {m}x{n} into whole warps", path="--warp", value=f"{rows}x{columns}")
    row_bytes = k * BITS_PER_ELEMENT.get(dtype, 16) // 8
    if row_bytes < PIECE_BYTES:
        raise InputError(f"has rows of less than the {PIECE_BYTES} bytes that a copy moves", path="--cta", value=tile, fix="use a larger K")
    try:
        return TileSpec.model_validate({"cta": (m, n, row_bytes), "warp": (rows, columns), "stages": 2} | given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][0])
        raise InputError(first["msg"].lower(), path=f"--{flag}", value=given.get(flag)) from None


def _sides(text: str, flag: str, form: str) -> tuple[int, ...]:
    """The numbers of a text like `form`."""
    sides = text.split("x")
    if len(sides) != len(form.split("x")) or not all(re.fullmatch(r"[1-9]\d{0,3}", side) for side in sides):
        example = "64x64x64" if "K" in form else "32x32"
        raise InputError(f"is not of the form {form}", path=flag, value=text, fix=f"write for example {example}")
    return tuple(map(int, sides))
