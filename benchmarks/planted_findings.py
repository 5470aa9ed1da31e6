"""Recall and precision of ``transxnet check`` on problems that are planted in the samples.

    python -m benchmarks.planted_findings scenes digits elpv

Of each sample, 400 images are written into class folders: 320 for training, 80 for validation. Planted are 40 copies of
each kind in the training set (resized to half the side; saved as JPEG of quality 50; mirrored; cropped by 5% of both
sides at a random place), 20 leaks (training images with the same pixels in the validation set), and 20 swapped labels.
In ``scenes``, 200 images with objects get 20 boxes of each problem. Each planted problem has an image of its own.

Recall is the fraction of the planted problems that are found. Precision is the fraction of the findings that are
planted; of near duplicates, of the pairs of images in the findings. The samples themselves have wrong labels and
similar images, which count as false findings. Label errors are found with ``--folds 5`` and the features of a network
that is trained on the planted data (``--model transxnet_n``, 8 epochs); ``scenes`` has no image classes. The same
network searches 40 copies of each stronger kind (turned by 90 degrees; 1.4 times as bright; cropped by a quarter of
both sides) by its features.
"""

import argparse
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from rich.console import Console

from transxnet import check, train
from transxnet.checking.check_report import CheckResult
from transxnet.data.open_data import open_data
from transxnet.data.samples.scenes import scenes

IMAGES, VALIDATION, COPIES, LEAKS, SWAPPED, BOXES, FOLDS = 400, 80, 40, 20, 20, 20, 5
QUIET = Console(file=io.StringIO())

Pairs = set[frozenset[str]]


def cropped(image: Image.Image, dice: np.random.Generator, kept: float = 0.95) -> Image.Image:
    """Crop to this fraction of both sides at a random place."""
    width, height = (round(kept * side) for side in image.size)
    left, top = (
        int(dice.integers(0, whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


Copies = dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]]

KINDS: Copies = {
    "resized": lambda image, dice: image.resize([max(1, side // 2) for side in image.size], Image.Resampling.BICUBIC),
    "recompressed": lambda image, dice: image,
    "mirrored": lambda image, dice: ImageOps.mirror(image),
    "cropped": cropped,
}

STRONGER: Copies = {
    "turned": lambda image, dice: image.transpose(Image.Transpose.ROTATE_90),
    "brighter": lambda image, dice: ImageEnhance.Brightness(image).enhance(1.4),
    "cropped by a quarter": lambda image, dice: cropped(image, dice, 0.75),
}
"""Copies for the search by features, which the search by thumbnails does not look for."""


def write_images(sample: str, root: Path) -> list[tuple[str, Path]]:
    """Write images of a sample as (class, file) in training and validation folders, the training images first."""
    dice, written = np.random.default_rng(0), []
    if sample == "scenes":
        files = sorted((scenes() / "train2017").iterdir())[:IMAGES]
        pairs = [(f"class{i % 2}", Image.open(file)) for i, file in enumerate(files)]
    else:
        images = open_data(sample, check_images=False).train
        chosen = dice.permutation(len(images))[:IMAGES]
        pairs = [(images.class_names[images.own_labels[i]], images.image(i)) for i in chosen]
    for i, (name, image) in enumerate(pairs):
        file = root / ("val" if i >= IMAGES - VALIDATION else "train") / name / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
        written.append((name, file))
    return written


def plant_copies(images: list[tuple[str, Path]], root: Path, copies: Copies) -> tuple[dict[str, Pairs], Pairs]:
    """Write the copies and leaks; return the pairs of each kind, and those of the leaks."""
    dice, rest = np.random.default_rng(1), iter(images)
    kinds: dict[str, Pairs] = {}
    for kind, copy in copies.items():
        kinds[kind] = set()
        for _ in range(COPIES):
            name, file = next(rest)
            suffix = ".jpg" if kind == "recompressed" else ".png"
            target = file.with_name(f"{file.stem}-{kind}{suffix}")
            copy(Image.open(file), dice).convert("RGB").save(target, quality=50)
            kinds[kind].add(frozenset((f"{name}/{file.name}", f"{name}/{target.name}")))
    leaks: Pairs = set()
    for _ in range(LEAKS):
        name, file = next(rest)
        target = root / "val" / name / f"{file.stem}-leak.bmp"
        Image.open(file).save(target)
        leaks.add(frozenset((f"{name}/{file.name}", f"{name}/{target.name}")))
    return kinds, leaks


def found_pairs(result: CheckResult, *kinds: str) -> Pairs:
    """Return all pairs of images in findings of these kinds."""
    names = [[result.all_images.name(n) for n in finding.images] for kind in kinds for finding in result.of(kind)]
    return {frozenset(pair) for group in names for pair in combinations(group, 2)}


def scores(planted: set[Any], found: Iterable[Any]) -> dict[str, Any]:
    """Return the numbers of found, planted and all findings."""
    all_found = set(found)
    return {"planted": len(planted), "found": len(planted & all_found), "findings": len(all_found)}


def measure_copies(sample: str, folder: Path) -> dict[str, Any]:
    """Measure duplicates and leaks."""
    kinds, leaks = plant_copies(write_images(sample, folder), folder, KINDS)
    result = check(folder, out=None, console=QUIET)
    near = found_pairs(result, "near_duplicate", "near_leak", "near_conflict")
    figures: dict[str, Any] = {kind: scores(pairs, near & pairs) for kind, pairs in kinds.items()}
    figures["near duplicates"] = scores(set().union(*kinds.values()), near)
    figures["leaks"] = scores(leaks, found_pairs(result, "exact_leak"))
    return figures


def measure_labels(sample: str, folder: Path) -> dict[str, Any]:
    """Measure swapped labels, images moved to the folder of another class, and copies found by features."""
    images = write_images(sample, folder)
    classes, swapped = sorted({name for name, _ in images}), set()
    for i in np.random.default_rng(2).permutation(len(images))[:SWAPPED]:
        name, file = images[i]
        other = classes[(classes.index(name) + 1) % len(classes)]
        target = file.parents[1] / other / file.name
        file.rename(target)
        swapped.add(f"{other}/{file.name}")
    size = {"digits": 32}.get(sample, 112)
    options: dict[str, Any] = dict(epochs=8, img_size=size, hflip=0.0, workers=1, device="cpu", console=QUIET)
    run = train(folder, model="transxnet_n", out=folder.with_name("run"), **options)
    result = check(folder, model=run.path, folds=FOLDS, device="cpu", out=None, console=QUIET)
    found = [result.all_images.name(finding.images[0]) for finding in result.of("label_error")]
    first = found[:SWAPPED]
    copies = folder.with_name("stronger")
    kinds, _ = plant_copies(write_images(sample, copies), copies, STRONGER)
    result = check(copies, model=run.path, folds=FOLDS, device="cpu", out=None, console=QUIET)
    near = found_pairs(result, "near_duplicate", "near_leak", "near_conflict")
    figures: dict[str, Any] = {"labels": scores(swapped, found), f"first {SWAPPED} labels": scores(swapped, first)}
    return figures | {kind: scores(pairs, near & pairs) for kind, pairs in kinds.items()}


def measure_boxes(folder: Path) -> dict[str, Any]:
    """Measure bad boxes in the annotations of scenes."""
    source, dice = scenes(), np.random.default_rng(3)
    content = json.loads((source / "annotations" / "instances_train2017.json").read_text())
    images = {image["id"]: image for image in content["images"][:200]}
    boxes = [entry for entry in content["annotations"] if entry["image_id"] in images]
    by_image = {entry["image_id"]: entry for entry in boxes}
    chosen, planted = iter(dice.permutation(list(by_image)).tolist()), {}
    for kind in ("box_tiny", "box_huge", "box_duplicate", "box_outside"):
        planted[kind] = set()
        for _ in range(BOXES):
            image = images[next(chosen)]
            width, height, own = image["width"], image["height"], by_image[image["id"]]["bbox"]
            bbox = {
                "box_tiny": [width // 2, height // 2, 3, 12],
                "box_huge": [1, 1, width - 2, height - 2],
                "box_duplicate": [own[0], own[1], own[2], own[3] - 1],
                "box_outside": [width - 20, height - 20, 40, 40],
            }[kind]
            boxes.append({"id": 10**6 + len(boxes), "image_id": image["id"], "category_id": 1, "bbox": bbox})
            planted[kind].add(image["file_name"])
    for entry in boxes:
        entry.pop("segmentation", None)
        entry["area"], entry["iscrowd"] = entry["bbox"][2] * entry["bbox"][3], 0
    (folder / "images").mkdir(parents=True)
    for image in images.values():
        shutil.copy(source / "train2017" / image["file_name"], folder / "images")
    new = {"images": list(images.values()), "annotations": boxes, "categories": content["categories"]}
    (folder / "images" / "annotations.json").write_text(json.dumps(new))
    result = check(folder / "images", out=None, console=QUIET)
    names = {
        kind: {result.all_images.name(n) for finding in result.of(kind) for n in finding.images} for kind in planted
    }
    details = [finding.detail for finding in result.of("box_outside")]
    outside = {name for name in planted["box_outside"] if any(name in detail for detail in details)}
    figures: dict[str, Any] = {kind: scores(planted[kind], names[kind]) for kind in list(planted)[:3]}
    return figures | {"box_outside": {"planted": BOXES, "found": len(outside), "findings": len(details)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="+", choices=("scenes", "digits", "elpv"))
    for sample in parser.parse_args().samples:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure_copies(sample, Path(folder) / "copies")
            figures |= (
                measure_boxes(Path(folder) / "boxes")
                if sample == "scenes"
                else measure_labels(sample, Path(folder) / "labels")
            )
        for name, row in figures.items():
            print(json.dumps({"sample": sample, "problem": name, **row}), flush=True)


if __name__ == "__main__":
    main()
