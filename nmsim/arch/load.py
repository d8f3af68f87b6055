"""From an architecture YAML to a frozen specification, or to one sentence that says what is wrong and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmsim.arch.coherence import contradictions
from nmsim.arch.compose import overridden, read_extended
from nmsim.arch.document import Document
from nmsim.arch.machine import MACHINES, Machine, as_gpu
from nmsim.arch.spec import GpuSpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.arch.systolic_coherence import systolic_contradictions
from nmsim.arch.validate import blame, validated

SCHEMA = "nmsim-arch/1"
"""What the key `schema` of a file says."""


def load_arch(path: str | Path, overrides: Sequence[str] = ()) -> Machine:
    """Read an architecture file, apply `overrides` (each `sm.count=144`), and check it: the spec of what its `kind` says.

    Raises InputError with file, line, path, value and fix for anything wrong with the file or an override.
    """
    return read_arch(path, overrides)[0]


def load_gpu(path: str | Path, overrides: Sequence[str] = ()) -> GpuSpec:
    """As `load_arch`; InputError for a machine of another kind."""
    return as_gpu(load_arch(path, overrides), str(path))


def read_arch(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Machine, Document]:
    """As `load_arch`, with the document that says where each value was written."""
    document = overridden(read_extended(path), overrides)
    spec = validated(document, _machine(document))
    found = next(contradictions(spec) if isinstance(spec, GpuSpec) else systolic_contradictions(spec), None)
    if found is not None:
        error = blame(document, found.path, found.problem, found.value, found.fix)
        if overrides and error.line is not None:  # the file says it, but it may be an override that does not go with it
            error = blame(document, found.path, f"{found.problem} (with {', '.join(overrides)})", found.value, found.fix)
        raise error
    return spec, document


def _machine(document: Document) -> type[GpuSpec] | type[SystolicSpec]:
    known = f"known kinds: {', '.join(MACHINES)}"
    if "kind" not in document.data:
        raise document.error("the key 'kind' is missing", (), fix=f"add `kind: gpu`; {known}")
    kind = document.data["kind"]
    if not isinstance(kind, str) or kind not in MACHINES:
        raise document.error("is not a kind of machine", ("kind",), kind, known)
    if "schema" not in document.data:
        fix = f"add `schema: {SCHEMA}`, or take it from a shipped file with `extends: PATH/ampere.yaml`"
        raise document.error("the key 'schema' is missing", (), fix=fix)
    return MACHINES[kind]
