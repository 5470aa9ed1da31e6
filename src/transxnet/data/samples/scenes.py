"""The built-in sample of scenes: handwritten digits on background images, in COCO format and as label maps."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.reading.masks import encode_mask, mask_box
from transxnet.data.samples.scene_drawing import Digits, Scene, draw_scene
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.files import cache_folder, write_atomic
from transxnet.utils.optional_packages import require_package

VERSION = 1
"""Version of the drawn scenes; each version has its own folder."""

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

BACKGROUNDS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "rocket.jpg",
)  # fmt: skip
"""Images in scikit-image's package that are free of license conditions and show no digits."""

LICENSE = (
    "Handwritten digits: UCI Machine Learning Repository, Creative Commons BY 4.0 (E. Alpaydin, C. Kaynak, 1998). "
    "Images of scikit-image: astronaut, hubble_deep_field (NASA) and rocket (SpaceX) are in the public domain, "
    "brick, camera, chelsea, coffee, grass and gravel are CC0."
)

TRAIN_SHARE = 0.8
"""Share of the digits by index, and of each background image along its longer side; the rest is for validation."""

_PARTS = {"train2017": "training", "val2017": "validation"}
"""COCO's and ADE20K's names of the training and validation set."""


def scenes(folder: str | Path | None = None, *, train: int = 2400, val: int = 150, seed: int = 0) -> Path:
    """Draw handwritten digits of many sizes, colors and angles on background images, with exact masks.

    Every scene is 192 to 320 pixels wide and high and holds up to seven digits, where later ones cover earlier ones;
    one in twelve is empty. The validation scenes show other digits and other parts of the background images. The same
    scenes are written in COCO format (``train2017/``, ``val2017/``, ``annotations/instances_*.json``; masks of the
    visible parts) and as label maps (``images/``, ``annotations/{training,validation}/``, ``classes.txt``; 0 is the
    background). With the same versions of NumPy and Pillow they are identical to the last bit for the same seed.

    Args:
        folder: output folder; by default in the user's cache. An existing folder is used as it is.
        train: number of training scenes.
        val: number of validation scenes.
        seed: seed of all randomness.

    Returns:
        The complete folder; it is renamed to its final name after everything is written.

    Raises:
        UserError: a package is missing, or the folder cannot be written or holds other data.
    """
    check_at_least(1, train=train, val=val)
    check_at_least(0, seed=seed)
    root = cache_folder() / f"scenes-{VERSION}-{train}-{val}-{seed}" if folder is None else Path(folder)
    if root.is_dir():
        if not all((root / f"annotations/instances_{part}.json").is_file() for part in _PARTS):
            raise UserError(f"{root} contains other files than scenes. Remove it, or choose another folder.")
        return root
    digits, backgrounds = _load_digits(), _load_backgrounds()
    temporary = root.with_name(f".{root.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for number, (part, count) in enumerate({"train2017": train, "val2017": val}.items()):
            drawn = (
                draw_scene(np.random.default_rng([seed, number, i]), digits[number], backgrounds[number], i % 12 == 5)
                for i in range(count)
            )
            _write_part(temporary, part, drawn)
        write_atomic(temporary / "classes.txt", "\n".join(("background", *CLASSES)) + "\n")
        write_atomic(temporary / "LICENSE.txt", LICENSE + "\n")
        _publish(temporary, root)
    except OSError as error:
        raise UserError(
            f"cannot write the sample scenes to {root}: {error.strerror or error}. "
            "Free some disk space, or set another cache folder: XDG_CACHE_HOME=FOLDER."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _write_part(root: Path, part: str, drawn: Iterator[Scene]) -> None:
    """Write the images, label maps and annotation file of one set."""
    photos, maps = root / "images" / _PARTS[part], root / "annotations" / _PARTS[part]
    for folder in (root / part, photos, maps):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(drawn, 1):
        name = f"{number:06d}"
        scene.image.save(photos / f"{name}.jpg", quality=92)
        _share(photos / f"{name}.jpg", root / part / f"{name}.jpg")
        classes = np.array([0, *(label + 1 for label in scene.labels)], np.uint8)
        Image.fromarray(classes[scene.owner]).save(maps / f"{name}.png")
        images.append(dict(id=number, file_name=f"{name}.jpg", width=scene.image.width, height=scene.image.height))
        annotations += _annotations(scene, number, len(annotations) + 1)
    categories = [dict(id=i, name=name, supercategory="digit") for i, name in enumerate(CLASSES, 1)]
    content = dict(
        info=dict(description="transxnet's sample scenes", version=str(VERSION)),
        licenses=[dict(id=1, name=LICENSE)],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    write_atomic(root / "annotations" / f"instances_{part}.json", json.dumps(content))


def _annotations(scene: Scene, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    for number, label in enumerate(scene.labels, 1):
        mask = scene.owner == number
        box = mask_box(mask)
        assert box is not None  # MIN_VISIBLE of each digit is visible
        yield dict(
            id=first_id + number - 1,
            image_id=image_id,
            category_id=label + 1,
            bbox=[box[0], box[1], box[2] - box[0], box[3] - box[1]],
            area=int(mask.sum()),
            iscrowd=0,
            segmentation=encode_mask(mask),
        )


def _share(file: Path, other: Path) -> None:
    """Hard link a file to a second name, or copy it if the file system has no links."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)


def _publish(temporary: Path, root: Path) -> None:
    """Rename the folder to its final name once it is on disk; another process may have been faster."""
    for file in temporary.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    try:
        temporary.rename(root)
    except OSError:
        if not root.is_dir():
            raise


def _load_digits() -> tuple[Digits, Digits]:
    """Digits for training, and digits of other writers for the validation scenes."""
    require_package("sklearn", "transxnet[samples,detect]", "The sample 'scenes'")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values, labels = bunch.images / 16, bunch.target
    cut = round(TRAIN_SHARE * len(labels))
    return Digits(values[:cut], labels[:cut]), Digits(values[cut:], labels[cut:])


def _load_backgrounds() -> tuple[list[Image.Image], list[Image.Image]]:
    """The larger part of each background image for training, and the rest for validation."""
    require_package("skimage", "transxnet[samples,detect]", "The sample 'scenes'")
    import skimage

    train, val = [], []
    for name in BACKGROUNDS:
        image = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        width, height = image.size
        if width >= height:
            cut = round(TRAIN_SHARE * width)
            boxes = (0, 0, cut, height), (cut, 0, width, height)
        else:
            cut = round(TRAIN_SHARE * height)
            boxes = (0, 0, width, cut), (0, cut, width, height)
        train.append(image.crop(boxes[0]))
        val.append(image.crop(boxes[1]))
    return train, val
