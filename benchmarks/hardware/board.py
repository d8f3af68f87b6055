"""Clock and power of the board while something runs on it, as nvidia-smi reports them."""

from __future__ import annotations

import statistics
import subprocess
import threading
from types import TracebackType

QUERY = ("nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits", "--loop-ms=50")


class BoardSampler:
    """Samples every 50 ms between entering and leaving; the medians are those of the later half, when clock and power have settled."""

    def __init__(self, device: int = 0, command: tuple[str, ...] = QUERY) -> None:
        self._command = (*command, f"--id={device}") if command is QUERY else command
        self._samples: list[tuple[int, float]] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> BoardSampler:
        try:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return self  # no nvidia-smi: the columns stay empty
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _read(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            clock, _, power = line.partition(",")
            try:
                self._samples.append((int(clock), float(power)))
            except ValueError:
                continue  # "[N/A]"

    @property
    def settled(self) -> list[tuple[int, float]]:
        """(MHz, W) of the later half of the samples."""
        return self._samples[len(self._samples) // 2 :]

    @property
    def clock_mhz(self) -> int | None:
        """Median SM clock; None without samples."""
        return round(statistics.median(clock for clock, _ in self.settled)) if self.settled else None

    @property
    def power_w(self) -> float | None:
        """Median board power; None without samples."""
        return round(statistics.median(power for _, power in self.settled), 1) if self.settled else None
