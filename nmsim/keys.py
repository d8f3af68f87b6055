"""Content keys: what was computed is named by what it was computed from."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any


def canonical_json(data: Any) -> str:
    """`data` as JSON with sorted keys and no spaces, so that equal data give equal text (NaN is refused)."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(data: Any) -> str:
    """sha256 (hex) of the canonical JSON of plain data."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


@cache
def source_key(*packages: str) -> str:
    """sha256 (hex) over the Python sources of nmsim sub-packages and modules, for caches that must notice an edit.

    numba's own cache looks only at the file of the compiled function, not at the files it calls.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for package in sorted(packages):
        module = root / f"{package}.py"
        for file in [module] if module.is_file() else sorted((root / package).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
