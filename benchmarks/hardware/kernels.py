"""CUDA sources that time matrix instructions: independent chains of one instruction, clocked by the SM itself.

A kernel of one CTA runs `warps` warps (warpgroups of four for wgmma), each with `CHAINS` independent accumulators, for a number
of iterations between two reads of the SM's clock. One warp and one chain gives the latency; many give the throughput. A chain of
wgmma does not wait by itself, as the tensor core forwards the accumulators: for the latency each iteration waits for its own. The kernel
is launched for at least SECONDS in all, so that a clock sampled meanwhile is that of the measurement; the last launch counts.
"""

from __future__ import annotations

from dataclasses import dataclass

ITERATIONS = 65536
SECONDS = 1.5
"""Half of it is looked at by `board.BoardSampler`, which samples the start of the program too."""


@dataclass(frozen=True)
class Instruction:
    """A matrix instruction: its shape, pattern, and what it needs."""

    name: str
    shape: tuple[int, int, int]
    pattern: str
    architecture: str
    """What nvcc compiles it for: this or later, or with a letter this only."""
    warps_together: int = 1

    @property
    def fma(self) -> int:
        """Dense-equivalent multiply-adds of one."""
        m, n, k = self.shape
        return m * n * k


MMA = Instruction("mma.sync.m16n8k16.f32.f16", (16, 8, 16), "dense", "sm_80")
MMA_SPARSE = Instruction("mma.sp.m16n8k32.f32.f16", (16, 8, 32), "2:4", "sm_80")
WGMMA = tuple(
    Instruction(f"wgmma.m64n{n}k{k}.f32.f16", (64, n, k), pattern, "sm_90a", 4)
    for n in (64, 128, 256)
    for k, pattern in ((16, "dense"), (32, "2:4"))
)
INSTRUCTIONS = (MMA, MMA_SPARSE, *WGMMA)

_MAIN = """
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <cuda_fp16.h>

constexpr int CHAINS = %(chains)d;
constexpr int ITERATIONS = %(iterations)d;

%(kernel)s

int main() {
    long long* elapsed;
    float* sink;
    if (cudaMalloc(&elapsed, sizeof(long long)) != cudaSuccess || cudaMalloc(&sink, 1 << 20) != cudaSuccess) {
        std::fprintf(stderr, "no CUDA device\\n");
        return 1;
    }
    const auto begun = std::chrono::steady_clock::now();
    do {
        for (int run = 0; run < 4; ++run) {
            chain<<<1, %(threads)d>>>(elapsed, sink);
        }
        const cudaError_t error = cudaDeviceSynchronize();
        if (error != cudaSuccess) {
            std::fprintf(stderr, "%%s\\n", cudaGetErrorString(error));
            return 1;
        }
    } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count() < %(seconds)s);
    long long cycles;
    cudaDeviceProp card;
    cudaMemcpy(&cycles, elapsed, sizeof(cycles), cudaMemcpyDeviceToHost);
    cudaGetDeviceProperties(&card, 0);
    std::printf("%%lld %%d %%zu %%s\\n", cycles, card.multiProcessorCount, card.totalGlobalMem, card.name);
    return 0;
}
"""

_CHAIN = """
__global__ void chain(long long* elapsed, float* sink) {
%(prepare)s
    __syncthreads();
    const long long start = clock64();
#pragma unroll 1
    for (int iteration = 0; iteration < ITERATIONS; ++iteration) {
#pragma unroll
        for (int link = 0; link < CHAINS; ++link) {
%(issue)s
        }
%(after)s
    }
%(finish)s
    __syncthreads();
    const long long stop = clock64();
    float sum = 0.0f;
    for (int link = 0; link < CHAINS; ++link) {
        for (int value = 0; value < %(accumulators)d; ++value) {
            sum += d[link][value];
        }
    }
    sink[threadIdx.x] = sum;
    if (threadIdx.x == 0) {
        *elapsed = stop - start;
    }
}
"""


def source(instruction: Instruction, warps: int, chains: int, measures: str) -> str:
    """The CUDA program that prints the cycles of ITERATIONS iterations of `chains` instructions in each of `warps` warps.

    Beside them the card: its SMs, bytes of memory and name. `measures` is `latency` or `throughput`.
    """
    kernel = _wgmma(instruction, waits=measures == "latency") if instruction.warps_together == 4 else _mma(instruction)
    return _MAIN % {"chains": chains, "iterations": ITERATIONS, "kernel": kernel, "threads": 32 * warps, "seconds": SECONDS}


def _mma(instruction: Instruction) -> str:
    sparse = instruction.pattern != "dense"
    prepare = """    float d[CHAINS][4] = {};
    unsigned a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
    const unsigned metadata = 0x44444444u + 0u * threadIdx.x;  // positions 0 and 1 of each four
    (void)metadata;"""
    accumulators = ", ".join(f'"+f"(d[link][{index}])' for index in range(4))
    if sparse:
        text = (
            "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
        )
        inputs = ", ".join([*(f'"r"(a[{i}])' for i in range(4)), *(f'"r"(b[{i}])' for i in range(4)), '"r"(metadata)'])
    else:
        text = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        inputs = ", ".join([*(f'"r"(a[{i}])' for i in range(4)), *(f'"r"(b[{i}])' for i in range(2))])
    issue = f'            asm volatile("{text}" : {accumulators} : {inputs});'
    return _CHAIN % {"prepare": prepare, "issue": issue, "after": "", "finish": "", "accumulators": 4}


def _wgmma(instruction: Instruction, *, waits: bool) -> str:
    """A and B from shared memory, K-contiguous in the 128-byte swizzle; zeros, whose power is the least there is.

    `waits`: each iteration for its own to be through.
    """
    _, n, k = instruction.shape
    count = n // 2
    registers = ", ".join(f"%{index}" for index in range(count))
    outputs = ", ".join(f'"+f"(d[link][{index}])' for index in range(count))
    prepare = f"""    float d[CHAINS][{count}] = {{}};
    extern __shared__ __align__(1024) unsigned char unused[];
    __shared__ __align__(1024) __half operands[(64 + {n}) * 64];
    for (int index = threadIdx.x; index < (64 + {n}) * 64; index += blockDim.x) {{
        operands[index] = __float2half(0.0f);
    }}
    (void)unused;
    // Address / 16, then the stride between groups of eight rows (1024 bytes) / 16, then the 128-byte swizzle.
    const unsigned long long swizzle = (1ull << 62) | (static_cast<unsigned long long>(1024 >> 4) << 32) | (1ull << 16);
    const unsigned base = static_cast<unsigned>(__cvta_generic_to_shared(operands));
    const unsigned long long a = swizzle | ((base & 0x3FFFF) >> 4);
    const unsigned long long b = swizzle | (((base + 64 * 128) & 0x3FFFF) >> 4);
    const unsigned metadata = 0x44444444u + 0u * threadIdx.x;  // positions 0 and 1 of each four
    (void)metadata;
    asm volatile("fence.proxy.async;" ::: "memory");"""
    if instruction.pattern == "dense":
        text = f"wgmma.mma_async.sync.aligned.m64n{n}k{k}.f32.f16.f16 {{{registers}}}, %{count}, %{count + 1}, accumulate, 1, 1, 0, 0;"
        inputs = '"l"(a), "l"(b)'
    else:
        text = (
            f"wgmma.mma_async.sp.sync.aligned.m64n{n}k{k}.f32.f16.f16 {{{registers}}}, "
            f"%{count}, %{count + 1}, %{count + 2}, 0x0, accumulate, 1, 1, 0, 0;"
        )
        inputs = '"l"(a), "l"(b), "r"(metadata)'
    text = f"{{ .reg .pred accumulate; setp.eq.b32 accumulate, 0, 0; {text} }}"
    issue = f"""            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
            asm volatile("{text}" : {outputs} : {inputs});"""
    after = '        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");'
    if waits:
        after += '\n        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");'
    finish = '    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");'
    return _CHAIN % {"prepare": prepare, "issue": issue, "after": after, "finish": finish, "accumulators": count}
