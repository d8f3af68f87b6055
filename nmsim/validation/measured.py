"""What a suite hands back: published numbers beside simulated ones, and statements that hold or do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmsim.arch.machine import Machine
from nmsim.errors import InputError

Progress = Callable[[int, int, str], None]
"""(done, of, what)."""

QUICK_MACS = 10**12
"""Dense-equivalent MACs of the largest GEMM of a quick run: 8192^3 stays in, 16384^3 does not."""


@dataclass(frozen=True)
class Comparison:
    """One published number and the simulated one beside it."""

    row: str
    """Identifier of the row in its data file."""
    quantity: str
    """What of the row this is, for example `2:4 time`."""
    unit: str
    published: float
    simulated: float
    tags: frozenset[str]
    """What bars choose rows by."""
    source: str
    status: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        """Row and quantity: unique in its suite."""
        return f"{self.row} {self.quantity}"

    @property
    def difference(self) -> float:
        """Simulated less published, in the row's unit."""
        return self.simulated - self.published

    @property
    def error_percent(self) -> float:
        """Relative error, positive where the simulated number is larger."""
        return 100 * (self.simulated / self.published - 1)


@dataclass(frozen=True)
class Check:
    """A statement about the simulated numbers that holds or does not."""

    name: str
    holds: bool | None
    """None where the rows it is about were not run."""
    evidence: str


@dataclass(frozen=True)
class Series:
    """A simulated curve without a published counterpart."""

    quantity: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Measured:
    """All of one suite's rows and checks, unjudged."""

    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...] = ()
    left_out: tuple[str, ...] = ()
    """One line for each row that was not run, with the reason."""
    series: tuple[Series, ...] = ()


@dataclass(frozen=True)
class Context:
    """How a suite is run: on which files, with what changed in the machines, on which engine."""

    overrides: tuple[str, ...] = ()
    engine: str | None = None
    most_macs: int | None = None
    """Larger GEMMs are left out."""
    curves: bool = True
    """Whether curves are wanted in full, and those without a published counterpart too."""
    data: Path | None = None
    """The user's own measurements instead of the shipped ones (suites gemm and tensor_core)."""
    progress: Progress = lambda done, of, what: None

    def machine(self, file_name: str, overrides: Sequence[str] = ()) -> Machine:
        """A shipped machine, or one given by its path, with the overrides of a row and then those of this run."""
        from nmsim.api import load_arch

        return load_arch(find_arch(file_name, self.data), (*overrides, *self.overrides))


def find_arch(name: str, beside: Path | None = None) -> Path:
    """The path of an architecture file: as given, beside the data file that names it, or among the shipped ones."""
    shipped = Path(__file__).parents[2] / "arch_configs"
    places: Sequence[Path] = [Path(name), *([beside.parent / name] if beside else []), shipped / name, Path("arch_configs") / name]
    for place in places:
        if place.is_file():
            return place
    raise InputError("no such architecture file", value=name, fix=f"looked for {', '.join(map(str, places))}")
