"""SM-level results, each simulated once ever: kept in memory, and on disk under a key of all they depend on."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from nmsim.arch.spec import GpuSpec
from nmsim.hw.mainloop import MainloopTiming
from nmsim.keys import content_key
from nmsim.mapping.plan import MainloopKey


def mainloop_timing(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    """The SM level's answer for a mainloop with up to `occupancy` resident CTAs."""
    return _timing(_sm_key(_SmParts(spec)), key, occupancy, _Spec(spec))


class _Spec:
    """Carries the spec past the cache: equal for every spec whose SM parts have the same key."""

    def __init__(self, spec: GpuSpec) -> None:
        self.spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Spec)

    def __hash__(self) -> int:
        return 0


class _SmParts:
    """What the SM level reads of a spec, equal only to the very same objects: frozen, and slow to compare by content."""

    def __init__(self, spec: GpuSpec) -> None:
        self.parts = spec.sm, spec.shared_memory, spec.tensor_core

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SmParts) and all(here is there for here, there in zip(self.parts, other.parts, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.parts)))

    def content(self) -> dict[str, Any]:
        """The numbers, without where they come from."""
        sm, shared_memory, tensor_core = self.parts
        core = tensor_core.model_dump(mode="json", exclude={"sources": True, "mma": {"__all__": {"sources"}}, "decoder": {"sources"}})
        return {
            "schedulers": sm.schedulers,
            "fp32_fma_per_cycle": sm.fp32_fma_per_cycle,
            "shared_memory": shared_memory.model_dump(exclude={"sources"}),
            "tensor_core": core,
        }


@lru_cache(maxsize=64)
def _sm_key(parts: _SmParts) -> str:
    """A step asks for the same spec's key at every kernel; the cache keeps the objects, so that no identity is used twice."""
    return content_key(parts.content())


@cache
def _timing(sm_key: str, key: MainloopKey, occupancy: int, carried: _Spec) -> MainloopTiming:
    from nmsim.hw.chip_compiled import cache_folder

    name = content_key({"sm": sm_key, "mainloop": asdict(key), "occupancy": occupancy})
    file = cache_folder() / "mainloops" / f"{name}.json"
    try:
        return MainloopTiming.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not there, or not ours any more: simulate it
    timing = _simulate(carried.spec, key, occupancy)
    _keep(file, json.dumps(timing.to_json()))
    return timing


def _simulate(spec: GpuSpec, key: MainloopKey, occupancy: int) -> MainloopTiming:
    if key.kind == "stream":
        from nmsim.hw.stream_level import stream_timing

        return stream_timing(spec, key, occupancy)
    from nmsim.hw.sm_level import simulate_mainloop

    return simulate_mainloop(spec, key, occupancy)


def _keep(file: Path, text: str) -> None:
    """Write to a temporary name, then rename; a cache that can't be written is only slower."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
            draft.write(text)
        os.replace(draft.name, file)
    except OSError:
        return
