"""The published and hand-checked vectors, and small ways to make masks that a test knows to be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data" / "algorithm_vectors.json"


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """`tests/data/algorithm_vectors.json`: each group says in `verified` how its numbers were checked."""
    loaded: dict[str, Any] = json.loads(DATA.read_text())
    return loaded
