"""Images of four 16-bit channels, whose classes differ only in the low byte of the last one."""

from pathlib import Path

import numpy as np
import pytest

CHANNELS = 4
LOW_BYTES = {"dark": 0, "light": 255}
"""Low byte of the last channel, by class."""


def write_bands(root: Path, count: int, side: int = 40) -> Path:
    """Write one folder of TIFF files for each class."""
    tifffile = pytest.importorskip("tifffile")
    noise = np.random.default_rng(0)
    for name, low in LOW_BYTES.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = noise.integers(0, 65536, (CHANNELS, side, side), np.uint16)
            pixels[-1] = 0x8000 + low
            tifffile.imwrite(root / name / f"{i:03d}.tif", pixels, photometric="minisblack", planarconfig="separate")
    return root
