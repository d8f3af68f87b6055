"""Watching the processes and the folder of a sweep from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file under a folder: its path there and its content."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def children(pid: int) -> list[int]:
    """Processes that a process started and that are still there (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """False for a process that has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], patience_s: float = 120.0) -> None:
    """Wait for a condition; AssertionError where it does not come true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
