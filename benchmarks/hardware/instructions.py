"""Times mma, mma.sp and wgmma on your GPU: latency of one, throughput of many. Beside them, what nmsim says of the same.

    python benchmarks/hardware/instructions.py --out my_instructions.csv [--arch sm_80|sm_89|sm_90a]
    nmsim validate tensor_core --data my_instructions.csv

Needs nvcc. `--compile-only` compiles every program and runs none: a check for a machine without a GPU.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from board import BoardSampler
from kernels import INSTRUCTIONS, ITERATIONS, Instruction, source
from rows import InstructionRow, machine_of, what_to_do, write_rows

POINTS = ((1, 1), (4, 1), (4, 2), (4, 3), (8, 1), (8, 2), (8, 3))
"""(warps, chains) of an instruction of one warp; the first is its latency."""
GROUP_POINTS = (("latency", 4), ("throughput", 4), ("throughput", 8))
"""(what is measured, warps) of a warpgroup's instruction, one chain each."""


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
    try:
        found = points(asked.arch)
    except ValueError as error:
        parser.error(str(error))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for point in found:
            program = build(point, asked.arch, Path(folder), asked.nvcc)
            print(f"{point}: compiled", flush=True)
            if not asked.compile_only:
                rows.append(_run(program, point, asked.out))
                print(f"  {rows[-1].throughput_fma_per_cycle_per_sm:,.1f} FMA a cycle, {rows[-1].iteration_cycles:.1f} cycles", flush=True)
    if rows:
        write_rows(asked.out, rows)


@dataclass(frozen=True)
class Point:
    """One measurement."""

    instruction: Instruction
    measures: str
    """`latency` or `throughput`."""
    warps: int
    chains: int

    def __str__(self) -> str:
        return f"{self.instruction.name} {self.measures} {self.warps} warps {self.chains} chains"


def points(architecture: str) -> list[Point]:
    """Everything that `architecture` has; ValueError where that is none."""
    match = re.fullmatch(r"sm_(\d{2,3})([af]?)", architecture)
    if match is None:
        raise ValueError(f"{architecture!r} is no architecture: write for example sm_80, sm_89 or sm_90a")
    found = []
    for instruction in INSTRUCTIONS:
        number, letter = instruction.architecture[3:5], instruction.architecture[5:]
        if architecture != instruction.architecture if letter else int(match[1]) < int(number):
            continue
        if instruction.warps_together == 1:
            found += [Point(instruction, "latency" if at == 0 else "throughput", *point) for at, point in enumerate(POINTS)]
        else:
            found += [Point(instruction, measures, warps, 1) for measures, warps in GROUP_POINTS]
    if not found:
        raise ValueError(f"{architecture} has none of the instructions timed here: they begin with sm_80")
    return found


def build(point: Point, architecture: str, folder: Path, nvcc: str = "nvcc") -> Path:
    """Compile one program; CalledProcessError with nvcc's words where it refuses."""
    name = re.sub(r"\W", "_", str(point))
    file, program = folder / f"{name}.cu", folder / name
    file.write_text(source(point.instruction, point.warps, point.chains, point.measures))
    target = f"arch={architecture.replace('sm', 'compute')},code={architecture}"
    subprocess.run([nvcc, "-std=c++17", "-O3", "-gencode", target, "-o", str(program), str(file)], check=True)
    return program


def _run(program: Path, point: Point, out: Path) -> InstructionRow:
    with BoardSampler() as board:
        answer = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{point}: {answer.stderr.strip()}")
    return row_of(point, answer.stdout, board.clock_mhz, board.power_w, out)


def row_of(point: Point, answer: str, clock_mhz: int | None, power_w: float | None, out: Path) -> InstructionRow:
    """The row of what a program printed: cycles, SMs, bytes of memory and name of the card."""
    counted, sms, memory, gpu = answer.strip().split(" ", 3)
    instruction, cycles = point.instruction, int(counted) / ITERATIONS
    arch = machine_of(gpu, int(sms), int(memory))
    if not arch:
        print(what_to_do(gpu, int(sms), int(memory), out))
    issued = point.warps // instruction.warps_together * point.chains
    m, n, k = instruction.shape
    return InstructionRow(
        id=str(point),
        arch=arch,
        shape=f"m{m}n{n}k{k}",
        pattern=instruction.pattern,
        dtype="fp16",
        acc="fp32",
        measures=point.measures,
        warps=point.warps,
        chains=point.chains,
        iteration_cycles=round(cycles, 3),
        throughput_fma_per_cycle_per_sm=round(issued * instruction.fma / cycles, 2),
        gpu=gpu,
        clock_mhz=clock_mhz,
        power_w=power_w,
        source="benchmarks/hardware/instructions.py",
        status="measured",
        note="",
    )


if __name__ == "__main__":
    main()
