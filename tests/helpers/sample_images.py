"""Small images, in memory and in files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, count: int, size: tuple[int, int] = (40, 48)) -> list[Path]:
    """Write images of noise with a bright square at varying positions; (width, height) pixels."""
    noise = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        pixels = noise.integers(0, 120, (size[1], size[0], 3))
        pixels[5 + 3 * i : 15 + 3 * i, 8:20] = 220
        paths.append(folder / f"{i:02d}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


def noise_image(width: int = 50, height: int = 70) -> Image.Image:
    """A noise image, always the same."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))
