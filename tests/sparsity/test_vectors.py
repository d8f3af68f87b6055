"""Every group of hand-checked vectors is used by a test: a group that none reads pins nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
READS = re.compile(r'vectors\["(\w+)"\]')


def test_every_group_is_read_by_a_test_and_every_group_read_exists(vectors: dict[str, Any]) -> None:
    sources = [path.read_text() for path in TESTS.rglob("test_*.py")]
    read = {name for source in sources for name in READS.findall(source)}
    assert read == set(vectors) - {"_meta"}
