"""Small data sets of boxes, masks and label maps, and options of trainings that take seconds."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from transxnet.data.reading.masks import encode_mask

QUICK = dict(model="test_resnet", batch_size=2, epochs=2, workers=0, device="cpu")
DETECT = QUICK | dict(task="detect", min_size=64)
SEGMENT = QUICK | dict(task="segment", crop=64)

CATEGORIES = [dict(id=4, name="red"), dict(id=9, name="blue")]
COLOURS = [(220, 40, 40), (40, 60, 220)]
SIZES = [(64, 64), (72, 56), (56, 72)]
"""Width and height of the images, alternating."""


def squares(number: int, count: int) -> tuple[np.ndarray, list[tuple[int, int, int, int, int]]]:
    """A noisy gray image with squares, and (class, x, y, width, height) of each; classes start from 0."""
    dice = np.random.default_rng(number)
    width, height = SIZES[number % 3]
    pixels = 120 + dice.normal(0, 10, (height, width, 3))
    objects = []
    for n in range(count):
        side = int(dice.integers(16, 29))
        x, y = int(dice.integers(0, width - side)), int(dice.integers(0, height - side))
        objects.append(((number + n) % 2, x, y, side, side))
        pixels[y : y + side, x : x + side] = COLOURS[(number + n) % 2]
    return pixels.clip(0, 255).astype(np.uint8), objects


def write_coco_squares(root: Path, count: int, categories=CATEGORIES, start: int = 0) -> Path:
    """Write images and an annotation file with polygons, run lengths and a crowd; every fourth image has no object."""
    root.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(start, start + count):
        pixels, objects = squares(number, 0 if number % 4 == 3 else 2)
        height, width = pixels.shape[:2]
        Image.fromarray(pixels).save(root / f"{number}.png")
        images.append(dict(id=number + 1, file_name=f"{number}.png", width=width, height=height))
        for n, (label, x, y, w, h) in enumerate(objects):
            mask = np.zeros((height, width), bool)
            mask[y : y + h, x : x + w] = True
            crowd = int(number % 4 == 2 and n == 1)
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number + 1,
                    category_id=categories[label % len(categories)]["id"],
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=crowd,
                    segmentation=encode_mask(mask) if crowd or number % 2 else polygon,
                )
            )
    content = dict(images=images, annotations=annotations, categories=list(categories))
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def write_squares(root: Path, train: int = 6, val: int = 3, categories=CATEGORIES) -> Path:
    """Write a training set and a validation set in COCO format."""
    write_coco_squares(root / "train", train, categories)
    write_coco_squares(root / "val", val, categories, start=100)
    return root


def write_maps(root: Path, train: int = 6, val: int = 3, zero_is_ignored: bool = False) -> Path:
    """Write images and label maps with background, red and blue; the border of each square is ignored.

    Args:
        root: data folder.
        train: number of training images.
        val: number of validation images.
        zero_is_ignored: number classes from 1 and ignore 0, as ADE20K does; else number from 0 and ignore 255.
    """
    maps, names = ("annotations", "validation") if zero_is_ignored else ("masks", "val")
    for part, start, count in (("training" if zero_is_ignored else "train", 0, train), (names, 100, val)):
        for kind in ("images", maps):
            (root / kind / part).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            pixels, objects = squares(number, 2)
            labels = np.full(pixels.shape[:2], int(zero_is_ignored), np.uint8)
            for label, x, y, w, h in objects:
                labels[y : y + h, x : x + w] = 0 if zero_is_ignored else 255
                labels[y + 1 : y + h - 1, x + 1 : x + w - 1] = label + 1 + int(zero_is_ignored)
            Image.fromarray(pixels).save(root / "images" / part / f"{number}.jpg", quality=95)
            Image.fromarray(labels).save(root / maps / part / f"{number}.png")
    return root


def write_voc_squares(root: Path, count: int = 6) -> Path:
    """Write images with boxes in Pascal VOC format."""
    for name in ("JPEGImages", "Annotations"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels, objects = squares(number, 2)
        height, width = pixels.shape[:2]
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.jpg", quality=95)
        words = "".join(
            f"<object><name>{CATEGORIES[label]['name']}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for label, x, y, w, h in objects
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (root / "Annotations" / f"{number}.xml").write_text(f"<annotation>{size}{words}</annotation>")
    return root


def write_yolo_squares(root: Path, train: int = 6, val: int = 3, polygons: bool = False) -> Path:
    """Write images and label files in YOLO format, with boxes or polygons and ``data.yaml``."""
    for part, start, count in (("train", 0, train), ("valid", 100, val)):
        for kind in ("images", "labels"):
            (root / part / kind).mkdir(parents=True)
        for number in range(start, start + count):
            pixels, objects = squares(number, 2)
            height, width = pixels.shape[:2]
            Image.fromarray(pixels).save(root / part / "images" / f"{number}.jpg", quality=95)
            rows = []
            for label, x, y, w, h in objects:
                box = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
                corners = [x / width, y / height, (x + w) / width, y / height, (x + w) / width, (y + h) / height]
                corners += [x / width, (y + h) / height]
                rows.append(" ".join(map(str, [label, *(corners if polygons else box)])))
            (root / part / "labels" / f"{number}.txt").write_text("\n".join(rows) + "\n")
    names = [category["name"] for category in CATEGORIES]
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {names}\n")
    return root
