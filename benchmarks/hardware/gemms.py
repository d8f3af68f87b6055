"""Times dense and 2:4 GEMMs on your GPU and writes them as `nmsim validate --data` reads them.

    python benchmarks/hardware/gemms.py --out my_gpu.csv [--sizes 1024 2048 4096] [--tokens 64 4096 --layer 3584 3584] [--dtype fp16]
    nmsim validate --data my_gpu.csv

Needs PyTorch with CUDA. Dense: torch's matmul, which calls cuBLAS. 2:4: torch's semi-structured tensors, which call cuSPARSELt
(compute capability 8.0 and later); their compression is timed apart. Launches are back to back on the same buffers, so that the L2
is warm, as in the published measurements; a time is the best of `--repeats` runs of at least `--seconds` each. Clock and power are
sampled over these runs with nvidia-smi.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from board import BoardSampler
from rows import GemmRow, machine_of, what_to_do, write_rows

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def main() -> None:
    """Measure what the command line asks for."""
    asked = _arguments()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is visible to PyTorch")
    card = torch.cuda.get_device_properties(0)
    arch = machine_of(card.name, card.multi_processor_count, card.total_memory)
    shapes = [(size, size, size) for size in asked.sizes] + [(tokens, *asked.layer) for tokens in asked.tokens]
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuSPARSELt {_cusparselt_version(torch)}"
    rows = []
    for m, n, k in shapes:
        row = _measure(torch, asked, (card.name, arch), versions, m, n, k)
        rows.append(row)
        print(f"{row.id}: dense {row.dense_us} us, 2:4 {row.sparse_us} us, {row.clock_mhz} MHz, {row.power_w} W", flush=True)
    write_rows(asked.out, rows)
    if not arch:
        print(what_to_do(card.name, card.multi_processor_count, card.total_memory, asked.out))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024, 2048, 4096, 8192], help="m = n = k")
    parser.add_argument("--tokens", type=int, nargs="*", default=[], help="values of m beside --layer")
    parser.add_argument("--layer", type=int, nargs=2, default=[3584, 3584], metavar=("N", "K"), help="n and k of --tokens")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    return parser.parse_args()


def _measure(torch: Any, asked: argparse.Namespace, card: tuple[str, str], versions: str, m: int, n: int, k: int) -> GemmRow:
    """One row; `card` is its name and the machine that describes it."""
    dtype = getattr(torch, DTYPES[asked.dtype])
    activations = torch.randn(m, k, device="cuda", dtype=dtype)
    weight = torch.randn(n, k, device="cuda", dtype=dtype)
    with BoardSampler() as dense_board:
        dense_us = _best_us(torch, asked, lambda: torch.nn.functional.linear(activations, weight))
    sparse_us = compress_us = None
    note = ""
    sparse_board = BoardSampler()
    try:
        kept = weight.abs().reshape(n, k // 4, 4).argsort(dim=-1).argsort(dim=-1) >= 2
        pruned = (weight.reshape(n, k // 4, 4) * kept).reshape(n, k)
        compressed = torch.sparse.to_sparse_semi_structured(pruned)
        compress_us = _best_us(torch, asked, lambda: torch.sparse.to_sparse_semi_structured(pruned))
        with sparse_board:
            sparse_us = _best_us(torch, asked, lambda: torch.nn.functional.linear(activations, compressed))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        note = f"2:4 not measured: {str(error).splitlines()[0]}"
    return GemmRow(
        id=f"{asked.dtype}/{m}x{n}x{k}",
        arch=card[1],
        m=m,
        n=n,
        k=k,
        dtype=asked.dtype,
        out_dtype=asked.dtype,
        pattern="2:4",
        dense_us=round(dense_us, 3),
        sparse_us=None if sparse_us is None else round(sparse_us, 3),
        compress_us=None if compress_us is None else round(compress_us, 3),
        l2="warm",
        gpu=card[0],
        clock_mhz=dense_board.clock_mhz,
        power_w=dense_board.power_w,
        sparse_clock_mhz=sparse_board.clock_mhz if sparse_us is not None else None,
        sparse_power_w=sparse_board.power_w if sparse_us is not None else None,
        tags="own",
        source=f"benchmarks/hardware/gemms.py, {versions}",
        status="measured",
        note=note,
    )


def _best_us(torch: Any, asked: argparse.Namespace, run: Callable[[], object]) -> float:
    """Microseconds of one call, back to back: the best of the repeats."""
    for _ in range(25):
        run()
    torch.cuda.synchronize()
    once = _timed_us(torch, run, 10)
    calls = max(50, int(asked.seconds * 1e6 / once))
    return min(_timed_us(torch, run, calls) for _ in range(asked.repeats))


def _timed_us(torch: Any, run: Callable[[], object], calls: int) -> float:
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        run()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop)) * 1000 / calls


def _cusparselt_version(torch: Any) -> str:
    backend = getattr(torch.backends, "cusparselt", None)
    version = backend.version() if backend is not None and backend.is_available() else None
    return "not there" if version is None else str(version)


if __name__ == "__main__":
    main()
