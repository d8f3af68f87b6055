"""The shared-memory port: bytes a cycle, latency, conflicts, and copies that take its cycles."""

from __future__ import annotations

from nmsim.hw.shared_memory import SharedMemoryPort


def test_an_ldmatrix_x4_takes_four_cycles_of_a_128_byte_port_and_its_latency() -> None:
    port = SharedMemoryPort(128, 29)
    assert port.read(0, 512, 512) == (4 + 29, 4)
    assert port.read(0, 512, 512) == (8 + 29, 8)
    assert port.read(7, 512, 512) == (12 + 29, 5)
    assert port.read(100, 512, 512) == (104 + 29, 4)


def test_conflicts_multiply_cycles_and_not_bytes() -> None:
    port = SharedMemoryPort(128, 29)
    assert port.read(0, 512, 8 * 512) == (32 + 29, 32)
    assert port.bytes == 512


def test_a_copy_takes_port_cycles_from_the_reads_behind_it() -> None:
    port = SharedMemoryPort(128, 29)
    assert port.write(0, 1280, 1280) == 10
    assert port.read(0, 128, 128) == (11 + 29, 11)
    assert port.bytes == 1408


def test_quarter_cycles_add_up_to_whole_ones() -> None:
    port = SharedMemoryPort(128, 0)
    assert [port.read(0, 32, 32)[0] for _ in range(9)] == [0, 0, 0, 1, 1, 1, 1, 2, 2]
