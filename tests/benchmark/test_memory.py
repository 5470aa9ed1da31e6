"""Current and peak resident memory against an allocation of known size."""

import mmap
import sys

import pytest

from transxnet.benchmark.memory import peak_memory, reset_peak, resident_memory

SIZE = 256 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports current memory and resets the peak")
def test_resident_and_peak_memory_follow_an_allocation():
    reset_peak("cpu")
    before = resident_memory()
    block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not malloc, which may keep what is freed
    for page in range(0, SIZE, mmap.PAGESIZE):
        block[page] = 1
    assert resident_memory() - before == pytest.approx(SIZE, rel=0.1)
    block.close()
    assert resident_memory() - before < SIZE / 2
    assert peak_memory("cpu") - before > 0.9 * SIZE
    reset_peak("cpu")
    assert peak_memory("cpu") - before < SIZE / 2


def test_peak_is_at_least_the_resident_memory():
    assert 1e7 < resident_memory() <= 1.01 * resident_memory("VmHWM")
