"""The bars of the suites, as `data/suites.yaml` states them: which rows, which statistic, how much, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from nmsim.errors import InputError
from nmsim.validation.measured import Comparison
from nmsim.validation.tabular import DATA

SUITE_BARS = DATA / "suites.yaml"

Statistic = Literal["mean_error_percent", "worst_error_percent", "worst_difference"]


class Bar(BaseModel):
    """One requirement on the rows that carry all of `rows` (tags) and none of `but`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    statistic: Statistic
    """`mean_error_percent` and `worst_error_percent` are of absolute relative errors, `worst_difference` in the rows' unit."""
    rows: tuple[str, ...] = Field(strict=False)
    but: tuple[str, ...] = Field(default=(), strict=False)
    limit: float = Field(gt=0)
    why: str

    def chooses(self, comparison: Comparison) -> bool:
        """Whether this bar is about that row."""
        return set(self.rows) <= comparison.tags and not set(self.but) & comparison.tags

    def value(self, counted: Sequence[Comparison]) -> float:
        """The statistic over rows, which must not be empty."""
        if self.statistic == "worst_difference":
            return max(abs(row.difference) for row in counted)
        errors = [abs(row.error_percent) for row in counted]
        return max(errors) if self.statistic == "worst_error_percent" else sum(errors) / len(errors)


class SuiteBars(BaseModel):
    """What one suite must meet: bars over rows, and checks by name with the reason each is asked for."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    bars: tuple[Bar, ...] = Field(default=(), strict=False)
    checks: dict[str, str] = Field(default_factory=dict)


def read_bars(path: Path = SUITE_BARS) -> dict[str, SuiteBars]:
    """All suites' bars by suite name. InputError for a file that does not follow the schema."""
    data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    try:
        return {name: SuiteBars.model_validate(block) for name, block in data.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(first["msg"], file=path, path=where, value=first["input"]) from None
