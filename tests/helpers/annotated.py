"""Hand-written data sets of boxes, masks and label maps in the annotation formats of the tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [dict(id=3, name="dog"), dict(id=7, name="cat"), dict(id=1, name="ant")]


def write_image(path: Path, width: int = 40, height: int = 30, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, value, value)).save(path)
    return path


def image(number: int, width: int = 40, height: int = 30, **more: Any) -> dict[str, Any]:
    return dict(id=number, file_name=f"{number}.png", width=width, height=height) | more


def box(number: int, image_id: int, values: Any = (4, 5, 10, 8), category: int = 7, **more: Any) -> dict[str, Any]:
    listed = list(values) if isinstance(values, tuple) else values
    return dict(id=number, image_id=image_id, category_id=category, bbox=listed) | more


def write_coco(
    file: Path,
    images: Sequence[dict],
    annotations: Sequence[dict],
    categories: Sequence[dict] = CATEGORIES,
    image_folder: Path | None = None,
) -> Path:
    """Write an annotation file and, into a folder, the images it lists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = dict(images=list(images), annotations=list(annotations), categories=list(categories))
    file.write_text(json.dumps(content))
    if image_folder is not None:
        for entry in images:
            write_image(image_folder / entry["file_name"], entry.get("width", 40), entry.get("height", 30))
    return file


def write_map(path: Path, values: np.ndarray, image_path: Path | None = None) -> Path:
    """Write a label map and, on request, an image of its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    if image_path is not None:
        write_image(image_path, values.shape[1], values.shape[0])
    return path


def voc_object(name: str, corners: Sequence[Any], difficult: int = 0) -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def write_voc(root: Path, stem: str, *objects: str, width: int = 40, height: int = 30) -> None:
    """Write an annotation file and its image."""
    write_image(root / "JPEGImages" / f"{stem}.jpg", width, height)
    (root / "Annotations").mkdir(exist_ok=True)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
