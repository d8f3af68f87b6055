"""The recorder: one training step of anyone's PyTorch model as a trace.

capture (what is dispatched) -> products (which GEMM it is) -> structure (what its masks obey) -> record (the trace).
"""
