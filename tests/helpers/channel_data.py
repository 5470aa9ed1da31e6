"""Images of four 16-bit channels, whose classes differ only in the low byte of the last one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHANNELS = 4
LOW_BYTES = {"dark": 0, "light": 255}
"""Low byte of the last channel, by class."""


def write_bands(root: Path, count: int, side: int = 40) -> Path:
    """Write one folder of TIFF files for each class."""
    noise = np.random.default_rng(0)
    for name, low in LOW_BYTES.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            write_tiff(root / name / f"{i:03d}.tif", _pixels(noise, np.full((side, side), low)))
    return root


def write_band_maps(root: Path, count: int, side: int = 64) -> Path:
    """Write TIFF files with label maps of the two classes, of which one is a square."""
    noise = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        labels = np.zeros((side, side), np.uint8)
        left, top = noise.integers(0, side // 2, 2)
        labels[top : top + side // 2, left : left + side // 2] = 1
        write_tiff(root / "images" / f"{i}.tif", _pixels(noise, 255 * labels))
        Image.fromarray(labels).save(root / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("\n".join(LOW_BYTES) + "\n")
    return root


def write_band_boxes(root: Path, count: int, side: int = 64) -> Path:
    """Write NPY files with a square each, and annotation files of COCO, YOLO and Pascal VOC in a folder for each."""
    noise = np.random.default_rng(0)
    images, annotations = [], []
    for name in ("coco", "yolo/images", "yolo/labels", "voc/images", "voc/annotations"):
        (root / name).mkdir(parents=True)
    for i in range(1, count + 1):
        left, top, wide = (int(n) for n in [*noise.integers(0, side // 2, 2), side // 2])
        labels = np.zeros((side, side), np.uint16)
        labels[top : top + wide, left : left + wide] = 255
        pixels = _pixels(noise, labels)
        for folder in ("coco", "yolo/images", "voc/images"):
            np.save(root / folder / f"{i}.npy", pixels)
        images.append(dict(id=i, file_name=f"{i}.npy", width=side, height=side))
        box = [left, top, wide, wide]
        annotations.append(dict(id=i, image_id=i, category_id=1, bbox=box, area=wide**2, iscrowd=0))
        center = (left + wide / 2) / side, (top + wide / 2) / side
        (root / "yolo" / "labels" / f"{i}.txt").write_text(f"0 {center[0]} {center[1]} {wide / side} {wide / side}\n")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, left + wide, top + wide), strict=True)
        bounds = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
        text = f"<annotation><object><name>light</name><bndbox>{bounds}</bndbox></object></annotation>"
        (root / "voc" / "annotations" / f"{i}.xml").write_text(text)
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="light")])
    (root / "coco" / "annotations.json").write_text(json.dumps(content))
    (root / "yolo" / "classes.txt").write_text("light\n")
    return root


def write_tiff(file: Path, pixels: np.ndarray) -> None:
    """Write an image (C, H, W) as TIFF."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="separate")


def _pixels(noise: np.random.Generator, low: np.ndarray) -> np.ndarray:
    """An image (C, H, W) of noise, with these low bytes in the last channel."""
    pixels = noise.integers(0, 65536, (CHANNELS, *low.shape), np.uint16)
    pixels[-1] = low.astype(np.uint16) + 0x8000
    return pixels
