"""Images with planted duplicates, and boxes with planted mistakes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.helpers.annotated import CATEGORIES, box, image, write_coco

SIDE = 96

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "resized": lambda image: image.resize((60, 60), Image.Resampling.BICUBIC),
    "cropped": lambda image: image.crop((3, 1, 94, 92)),
    "cropped_corner": lambda image: image.crop((5, 5, SIDE, SIDE)),
    "cropped_mirrored": lambda image: ImageOps.mirror(image.crop((0, 2, 91, 93))),
    "recompressed": lambda image: image,  # write_texture saves it as JPEG
}
"""The copies that are near duplicates, by name."""


def texture(seed: int) -> Image.Image:
    """An image of random detail at all scales, like a natural image."""
    dice, total = np.random.default_rng(seed), np.zeros((SIDE, SIDE, 3))
    for cells in (3, 6, 12, 24, 48):
        noise = dice.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) * (3.0 / cells)
    scaled = (total - total.min()) / (total.max() - total.min())
    return Image.fromarray((255 * scaled).astype(np.uint8))


def write_texture(path: Path, seed: int, copy: str | None = None) -> Path:
    """Write a texture, or one of its copies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = texture(seed) if copy is None else COPIES[copy](texture(seed))
    if copy == "recompressed":
        made.save(path.with_suffix(".jpg"), quality=40)
    else:
        made.save(path)
    return path


def write_planted(root: Path) -> Path:
    """Write class folders with 40 different images, and planted copies in the same set, the other set and class."""
    for seed in range(40):
        part, name = ("val" if seed % 4 == 3 else "train"), "ab"[seed % 2]
        write_texture(root / part / name / f"{seed:02d}.png", seed)
    for seed, copy in zip((0, 4, 8, 12, 16, 20), COPIES, strict=True):  # originals: train, class a
        write_texture(root / "train" / "a" / f"{seed:02d}-{copy}.png", seed, copy)
    write_texture(root / "train" / "b" / "01-same.png", 1)  # an exact duplicate in one set
    write_texture(root / "val" / "a" / "02-leak.png", 2)  # the same pixels in two sets
    write_texture(root / "val" / "b" / "05-near.png", 5, "mirrored")  # a near duplicate in two sets
    write_texture(root / "train" / "b" / "06-label.png", 6)  # the original has class a
    (root / "train" / "a" / "broken.png").write_bytes(b"not an image")
    return root


def swap_labels(root: Path, every: int) -> set[str]:
    """Move every n-th image below the class folders of a set to the next class; return their new names."""
    classes, moved = sorted(path.name for path in root.iterdir()), set()
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        if number % every == 0:
            other = classes[(classes.index(path.parent.name) + 1) % len(classes)]
            path.rename(root / other / f"swapped-{number:03d}.png")
            moved.add(f"{other}/swapped-{number:03d}.png")
    return moved


def write_bad_boxes(root: Path) -> Path:
    """Write COCO data with one box of each problem, among good ones."""
    images = [image(number, 80, 60) for number in range(1, 9)]
    boxes = [box(number, number, (10, 10, 20, 20)) for number in range(1, 9)]
    boxes += [
        box(11, 1, (40, 30, 2, 20)),  # tiny
        box(12, 2, (0, 0, 80, 59)),  # huge
        box(13, 3, (10, 10, 20, 19)),  # a duplicate
        box(14, 4, (70, 50, 30, 30)),  # outside
    ]
    for part, chosen in (("train", images[:6]), ("val", images[6:])):
        ids = {entry["id"] for entry in chosen}
        file = root / "annotations" / f"instances_{part}.json"
        write_coco(file, chosen, [b for b in boxes if b["image_id"] in ids], CATEGORIES, root / part)
    for number in range(1, 9):
        write_image_of(root / ("train" if number <= 6 else "val") / f"{number}.png", number)
    return root


def write_image_of(path: Path, seed: int) -> None:
    """Write a texture of 80x60 pixels."""
    texture(100 + seed).crop((0, 0, 80, 60)).save(path)
