"""Times mma, mma.sp and wgmma on your GPU: latency of one, throughput of many. Beside them, what nmsim says of the same.

    python benchmarks/hardware/instructions.py --out my_instructions.csv [--arch sm_80|sm_89|sm_90a]
    nmsim mma arch_configs/ampere.yaml --shape m16n8k32 --sparse --warps 8 --ilp 2

Needs nvcc. `--compile-only` compiles every program and runs none: a check for a machine without a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from board import BoardSampler
from kernels import INSTRUCTIONS, ITERATIONS, Instruction, source
from rows import InstructionRow, write_rows

POINTS = ((1, 1), (4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3))
"""(warps, chains); a warpgroup's instruction takes those of whole warpgroups."""


def main() -> None:
    """Compile and run what the card's architecture has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--arch", default="sm_80", help="what nvcc compiles for: sm_80, sm_86, sm_89, sm_90a ...")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--compile-only", action="store_true")
    asked = parser.parse_args()
    if not asked.compile_only and asked.out is None:
        parser.error("--out is needed, or --compile-only")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for instruction, warps, chains in points(asked.arch):
            program = build(instruction, warps, chains, asked.arch, Path(folder), asked.nvcc)
            print(f"{instruction.name} {warps} warps {chains} chains: compiled", flush=True)
            if not asked.compile_only:
                rows.append(_run(program, instruction, warps, chains))
                print(f"  {rows[-1].throughput_fma_per_cycle_per_sm:,.1f} FMA a cycle, {rows[-1].latency_cycles:.1f} cycles", flush=True)
    if rows:
        write_rows(asked.out, rows)


def points(architecture: str) -> Iterator[tuple[Instruction, int, int]]:
    """(instruction, warps, chains) of everything that `architecture` has."""
    hopper = architecture == "sm_90a"
    for instruction in INSTRUCTIONS:
        if instruction.architecture == "sm_90a" and not hopper:
            continue
        for warps, chains in POINTS:
            together = instruction.warps_together
            if together == 1 or (warps % together == 0 and chains == 1):
                yield instruction, warps, chains


def build(instruction: Instruction, warps: int, chains: int, architecture: str, folder: Path, nvcc: str = "nvcc") -> Path:
    """Compile one program; CalledProcessError with nvcc's words where it refuses."""
    name = f"{instruction.name.replace('.', '_')}_{warps}_{chains}"
    file, program = folder / f"{name}.cu", folder / name
    file.write_text(source(instruction, warps, chains))
    target = f"arch={architecture.replace('sm', 'compute')},code={architecture}"
    subprocess.run([nvcc, "-std=c++17", "-O3", "-gencode", target, "-o", str(program), str(file)], check=True)
    return program


def _run(program: Path, instruction: Instruction, warps: int, chains: int) -> InstructionRow:
    with BoardSampler() as board:
        answer = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{instruction.name}: {answer.stderr.strip()}")
    cycles = int(answer.stdout) / ITERATIONS
    issued = warps // instruction.warps_together * chains
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return InstructionRow(
        gpu=gpu.stdout.strip().splitlines()[0] if gpu.stdout.strip() else "unknown",
        instruction=instruction.name,
        pattern=instruction.pattern,
        dtype="fp16",
        warps=warps,
        chains=chains,
        latency_cycles=round(cycles, 3),
        throughput_fma_per_cycle_per_sm=round(issued * instruction.fma / cycles, 2),
        clock_mhz=board.clock_mhz,
        source="benchmarks/hardware/instructions.py",
    )


if __name__ == "__main__":
    main()
