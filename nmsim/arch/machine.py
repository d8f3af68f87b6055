"""Every kind of machine there is: what `kind` may say, and what it stands for."""

from __future__ import annotations

from nmsim.arch.spec import GpuSpec
from nmsim.arch.systolic import SystolicSpec
from nmsim.errors import InputError

Machine = GpuSpec | SystolicSpec

MACHINES: dict[str, type[GpuSpec] | type[SystolicSpec]] = {"gpu": GpuSpec, "systolic": SystolicSpec}
"""What `kind` may say, and the schema of each."""


def as_gpu(spec: Machine, what: str) -> GpuSpec:
    """`spec` where it is a GPU; else an InputError that names the kind and `what` was to be done, or which file it is."""
    if not isinstance(spec, GpuSpec):
        problem = f"a machine of kind gpu is needed, and {spec.name} is of kind {spec.kind}"
        raise InputError(problem, path=what, fix="`nmsim gemm` serves every kind")
    return spec
