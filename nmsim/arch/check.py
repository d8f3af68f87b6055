"""What a careful reader would object to in an architecture file that loads: values without a source, doubtful numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nmsim.arch.document import Document, KeyPath, dotted
from nmsim.arch.load import read_arch
from nmsim.arch.machine import Machine
from nmsim.arch.plausible import impossibilities, remarks
from nmsim.arch.spec import Block, GpuSpec
from nmsim.arch.systolic_coherence import systolic_remarks

RECORDED_DTYPE = "bf16"
"""Element type of the steps that are shipped in workloads/."""
KINDS_OF_SOURCE = ("datasheet", "measured", "derived", "fitted", "assumption")
"""A source says in one of these words how its value came about; ampere.yaml's first lines say what each means."""
IDENTITY = ("schema_version", "name", "kind", "description")
"""Top-level keys that say which machine this is; nothing measures them."""


_KIND = re.compile(rf"\b(?:{'|'.join(KINDS_OF_SOURCE)})|^set by --set ", re.IGNORECASE)
"""An override is a source of its own."""


@dataclass(frozen=True)
class Finding:
    """One objection: an `error` fails the check (no source, or a number that cannot be), a `warning` is a number worth a second look."""

    severity: Literal["error", "warning"]
    file: str
    line: int | None
    path: str
    problem: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.severity}: {self.path}: {self.problem}"


def check_arch(path: str | Path, overrides: Sequence[str] = ()) -> list[Finding]:
    """Findings about an architecture file, in the order of the machine's blocks; InputError where it does not load."""
    spec, document = read_arch(path, overrides)
    found = [_finding("error", document, at, problem) for at, problem in _unsourced(spec, ())]
    doubtful = remarks(spec) if isinstance(spec, GpuSpec) else systolic_remarks(spec)
    if isinstance(spec, GpuSpec):
        found += [_finding("error", document, at, problem) for at, problem in impossibilities(spec)]
    return found + [_finding("warning", document, at, problem) for at, problem in doubtful]


def hints(spec: Machine) -> list[str]:
    """What whoever wrote the machine will want to know before simulating on it, though nothing is wrong with it."""
    if not isinstance(spec, GpuSpec) or spec.peak_macs_per_cycle(RECORDED_DTYPE):
        return []
    own = ", ".join(dict.fromkeys(mma.dtype for mma in spec.tensor_core.mma if mma.nm is None))
    what = f"tensor_core.mma has no dense {RECORDED_DTYPE} instruction, the element type of the recorded steps in workloads/"
    return [f"{what}: add one, or simulate them with --dtype and one of {own}"]


def count_sourced(spec: Block) -> int:
    """How many values (a list or a table counts as one) the sources of `spec` speak of."""
    return sum(len(_leaves(block, path)) for path, block in _blocks(spec, ()))


def _finding(severity: Literal["error", "warning"], document: Document, path: KeyPath, problem: str) -> Finding:
    place = document.place(path)
    return Finding(severity, place.file, place.line, dotted(path), problem)


def _blocks(block: Block, path: KeyPath) -> Iterator[tuple[KeyPath, Block]]:
    """The blocks of a machine that keep sources: itself and its sub-blocks, but not the items of lists."""
    yield path, block
    for name, value in block:
        if isinstance(value, Block):
            yield from _blocks(value, (*path, name))


def _leaves(block: Block, path: KeyPath) -> list[str]:
    """Keys of `block` that were written and hold values rather than a sub-block."""
    skipped = ("sources", *(() if path else IDENTITY))
    return [name for name, value in block if name in block.model_fields_set and name not in skipped and not isinstance(value, Block)]


def _unsourced(spec: Block, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for at, block in _blocks(spec, path):
        for name in _leaves(block, at):
            if name not in block.sources and "*" not in block.sources:
                yield (*at, name), f"has no source; add `{name}: ...` to {dotted((*at, 'sources'))}"
        yield from _sources(block, at)
        for name in _leaves(block, at):
            value = getattr(block, name)
            for position, item in enumerate(value if isinstance(value, tuple) else ()):
                if isinstance(item, Block):  # its list is sourced as a whole; what it says itself must still make sense
                    yield from _sources(item, (*at, name, position))


def _sources(block: Block, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with the texts themselves."""
    for name, text in block.sources.items():
        here = (*path, "sources", name)
        if name != "*" and name not in block.model_fields_set:
            yield here, f"speaks of {name!r}, which the block does not hold"
        if not text.strip():
            yield here, "is empty; name a datasheet, a paper and table, a measurement, the rows of a fit, or say assumption"
        elif not _KIND.search(text):
            problem = f"is {_short(text)}, which does not say how the value came about"
            yield here, f"{problem}; begin with one of {', '.join(KINDS_OF_SOURCE)}, and then say which"


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
