"""`nmsim arch check FILE...` and `nmsim arch show FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmsim.errors import CheckFailed

if TYPE_CHECKING:
    from nmsim.arch.machine import Machine

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Check an architecture file, or show what it resolves to.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="Architecture file (YAML).", show_default=False)]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Architecture files (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value, as in sm.count=144; may be repeated.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(files: Files, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Refuse contradictions and values without a source (exit code 1); remark on doubtful numbers, and hint at what is left out.

    Example: nmsim arch check arch_configs/*.yaml
    """
    from nmsim.arch.check import check_arch, count_sourced, hints
    from nmsim.arch.load import load_arch

    checked, failures = [], []
    for file in files:
        findings = check_arch(file, overrides or ())
        errors = sum(finding.severity == "error" for finding in findings)
        if errors:
            failures.append(f"{file}: {errors} value(s) or source(s) to mend")
        if as_json:
            rows = [{"severity": f.severity, "file": f.file, "line": f.line, "path": f.path, "problem": f.problem} for f in findings]
            advice = hints(load_arch(file, overrides or ()))
            checked.append({"file": str(file), "ok": not errors, "findings": rows, "hints": advice})
            continue
        for finding in findings:
            typer.echo(str(finding))
        if not errors:
            spec = load_arch(file, overrides or ())
            for hint in hints(spec):
                typer.echo(f"{file}: hint: {hint}")
            typer.echo(f"{file}: ok, {spec.name}: {count_sourced(spec)} values, each with a source")
    if as_json:
        typer.echo(json.dumps(checked[0] if len(files) == 1 else checked))
    if failures:
        raise CheckFailed("; ".join(failures))


@app.command()
def show(file: File, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print every value after `extends` and `--set`, with its source, and the peak rates and the area of N:M that follow.

    Example: nmsim arch show arch_configs/ampere.yaml --set sm.count=128
    """
    from nmsim.arch.load import load_arch
    from nmsim.arch.resolve import arch_key, resolved_arch

    spec = load_arch(file, overrides or ())
    if as_json:
        typer.echo(json.dumps({"arch": resolved_arch(spec), "peaks": _peaks(spec), "area": _area(spec), "key": arch_key(spec)}))
        return
    typer.echo(f"{spec.name}\n{spec.description}".rstrip())
    _show_block(spec, "")
    typer.echo("\npeaks (derived)")
    for name, value in _peaks(spec).items():
        typer.echo(f"  {name} = {value:,.1f}")
    if area := _area(spec):
        typer.echo("\narea of N:M in one tensor core (first estimate, see nmsim/arch/area.py)")
        for name, value in area.items():
            typer.echo(f"  {name} = {value:,.1f}")


def _area(spec: Machine) -> dict[str, float]:
    """Gates of decoder and selector of one tensor core; empty for a machine without N:M instructions."""
    if spec.kind == "systolic":
        return {}
    from dataclasses import asdict

    from nmsim.arch.area import sparse_area

    area = sparse_area(spec)
    if area is None:
        return {}
    gates = {f"{part}_gates": round(value, 1) for part, value in asdict(area).items()}
    return gates | {"overhead_percent": round(area.overhead_percent, 2)}


def _peaks(spec: Machine) -> dict[str, float]:
    """Rates at the boost clock; an N:M rate counts the zeros too (dense-equivalent)."""
    if spec.kind == "systolic":
        tflops = round(spec.peak_macs_per_cycle * 2 * spec.clock_mhz * 1e-6, 3)
        return {"dense_tflops": tflops, "dram_gb_per_s": spec.dram.bandwidth_gb_per_s}
    pairs = sorted({(mma.dtype, mma.pattern) for mma in spec.tensor_core.mma}, key=lambda pair: (pair[0], pair[1] != "dense", pair[1]))
    per_cycle = {
        (dtype, pattern): spec.peak_macs_per_cycle(dtype, next(m.nm for m in spec.tensor_core.mma if m.pattern == pattern))
        for dtype, pattern in pairs
    }
    peaks = {f"{dtype}_{pattern}_tflops": round(macs * 2 * spec.clock.boost_mhz * 1e-6, 3) for (dtype, pattern), macs in per_cycle.items()}
    return peaks | {"l2_gb_per_s": round(spec.l2.bandwidth_gb_per_s, 3), "dram_gb_per_s": spec.dram.bandwidth_gb_per_s}


def _show_block(block: Any, path: str) -> None:
    """Print `key = value  (source)` for the values of a block, then its sub-blocks under their own headings."""
    from nmsim.arch.check import IDENTITY
    from nmsim.arch.resolve import resolved_arch
    from nmsim.arch.spec import Block

    if path:
        typer.echo(f"\n{path}")
    for name, value in block:
        if name == "sources" or isinstance(value, Block) or (not path and name in IDENTITY):
            continue
        if value is None:
            continue  # not given: nothing to give a source for
        is_written = name in block.model_fields_set
        source = block.sources.get(name, block.sources.get("*", "no source")) if is_written else "default: no file writes it"
        if isinstance(value, tuple) and value and isinstance(value[0], Block):
            typer.echo(f"  {name}  ({source})")
            for item in value:
                fields = ", ".join(f"{key} {_plain(part)}" for key, part in resolved_arch(item).items())
                typer.echo(f"    {fields}")
        else:
            typer.echo(f"  {name} = {_plain(value)}  ({source})")
    for name, value in block:
        if isinstance(value, Block):
            _show_block(value, f"{path}.{name}" if path else name)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value)) if all(isinstance(item, int) for item in value) else ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {part:g}" for key, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
