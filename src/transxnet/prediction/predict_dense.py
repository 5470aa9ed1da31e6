"""Detect objects in image files, or segment them, and write the results in COCO's format or as label maps."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset
from transxnet.data.reading.image_search import Inputs
from transxnet.evaluation.inference import detect_image, segment_image
from transxnet.metrics.detection import Detections, coco_results
from transxnet.prediction.image_summary import ImageSummary
from transxnet.reports.drawing import draw_detections, draw_label_map, indexed_map
from transxnet.runs.load import TrainedDetector, TrainedSegmenter
from transxnet.utils.device import prepare_for_inference, resolve_device
from transxnet.utils.files import ESCAPED_UTF8


@dataclass(frozen=True)
class ImageDetections:
    """The detections of one image.

    Attributes:
        path: path of the file.
        image: RGB image at its original size, or None if it could not be read.
        detections: detections, or None if the image could not be read.
        error: error if the image could not be read, or None.
    """

    path: str
    image: Image.Image | None
    detections: Detections | None
    error: str | None = None


@dataclass(frozen=True)
class ImageLabelMap:
    """The label map of one image.

    Attributes:
        path: path of the file.
        image: RGB image at its original size, or None if it could not be read.
        label_map: (H, W) uint8 at the size of the image, or None if it could not be read.
        error: error if the image could not be read, or None.
    """

    path: str
    image: Image.Image | None
    label_map: np.ndarray | None
    error: str | None = None


def detect_images(trained: TrainedDetector, inputs: Inputs, workers: int = 0) -> Iterator[ImageDetections]:
    """Detect objects in the images of files, folders, globs and shards, in order and in constant memory."""
    device = resolve_device()
    prepare_for_inference(trained.model, device)
    for path, pixels, error in _load_pixels(inputs, workers):
        if pixels is None:
            yield ImageDetections(path, None, None, error)
        else:
            yield ImageDetections(path, to_pil_image(pixels), detect_image(trained, pixels, device))


def segment_images(trained: TrainedSegmenter, inputs: Inputs, workers: int = 0) -> Iterator[ImageLabelMap]:
    """Segment the images of files, folders, globs and shards, in order and in constant memory."""
    device = resolve_device()
    prepare_for_inference(trained.model, device)
    for path, pixels, error in _load_pixels(inputs, workers):
        if pixels is None:
            yield ImageLabelMap(path, None, None, error)
        else:
            yield ImageLabelMap(path, to_pil_image(pixels), segment_image(trained, pixels, device))


def write_detections(
    predictions: Iterator[ImageDetections], folder: Path, class_names: Sequence[str]
) -> Iterator[ImageSummary]:
    """Write ``images.json``, ``detections.json`` and ``drawn/``.

    ``images.json`` has the images and categories in COCO's format and ``detections.json`` the results:
    ``COCO("images.json").loadRes("detections.json")`` of pycocotools reads them. ``drawn/`` has the images with the
    detections of a score of at least a half.

    Yields:
        The summary of each image.
    """
    (folder / "drawn").mkdir()
    category_ids = range(1, len(class_names) + 1)
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, class_names, strict=True)]
    with _JSONListWriter(folder / "detections.json") as results, _JSONListWriter(folder / "images.part") as images:
        for number, prediction in enumerate(predictions, 1):
            entry: dict[str, Any] = {"id": number, "file_name": prediction.path}
            if prediction.image is None or prediction.detections is None:
                images.add({**entry, "error": prediction.error})
                yield ImageSummary(prediction.path, error=prediction.error)
                continue
            images.add({**entry, "width": prediction.image.width, "height": prediction.image.height})
            for result in coco_results(prediction.detections, number, category_ids):
                results.add(result)
            shown = prediction.detections.filter()
            drawn = draw_detections(prediction.image, shown, class_names)
            drawn.save(folder / "drawn" / _unique_name(number, prediction.path, ".jpg"), quality=92)
            names = [class_names[label - 1] for label in shown.labels]
            objects = ", ".join(f"{times} {name}" for name, times in Counter(names).most_common())
            yield ImageSummary(prediction.path, objects or "no objects", names)
    with (
        (folder / "images.json").open("w", **ESCAPED_UTF8) as file,
        (folder / "images.part").open(**ESCAPED_UTF8) as part,
    ):
        file.write('{"categories": ' + json.dumps(categories) + ',\n"images": ')
        file.writelines(part)
        file.write("}\n")


def write_label_maps(
    predictions: Iterator[ImageLabelMap], folder: Path, class_names: Sequence[str]
) -> Iterator[ImageSummary]:
    """Write ``maps/``, ``drawn/``, ``classes.txt`` and ``predictions.csv``.

    ``maps/`` has indexed PNG files whose values are the classes, from 0, in the order of ``classes.txt``; ``drawn/``
    the images under the colors of their classes; ``predictions.csv`` the map and the most frequent class of each image.

    Yields:
        The summary of each image.
    """
    for name in ("maps", "drawn"):
        (folder / name).mkdir()
    (folder / "classes.txt").write_text("\n".join(class_names) + "\n", **ESCAPED_UTF8)
    with (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "map", "commonest", "share", "error"])
        for number, prediction in enumerate(predictions, 1):
            if prediction.image is None or prediction.label_map is None:
                writer.writerow([prediction.path, "", "", "", prediction.error])
                yield ImageSummary(prediction.path, error=prediction.error)
                continue
            name = _unique_name(number, prediction.path, ".png")
            indexed_map(prediction.label_map, len(class_names)).save(folder / "maps" / name)
            drawn = draw_label_map(prediction.image, prediction.label_map, class_names)
            drawn.save(folder / "drawn" / Path(name).with_suffix(".jpg"), quality=92)
            counts = np.bincount(prediction.label_map.ravel(), minlength=len(class_names))
            shares = {class_names[i]: counts[i] / counts.sum() for i in np.argsort(-counts, kind="stable") if counts[i]}
            most_frequent = next(iter(shares))
            writer.writerow([prediction.path, f"maps/{name}", most_frequent, f"{shares[most_frequent]:.4f}", ""])
            text = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:3])
            yield ImageSummary(prediction.path, f"{text} of the pixels", [most_frequent])


class _JSONListWriter:
    """A JSON file of a list that is written entry by entry."""

    def __init__(self, path: Path):
        self._file = path.open("w", **ESCAPED_UTF8)
        self._separator = "["

    def __enter__(self) -> "_JSONListWriter":
        return self

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(self._separator + "\n" + json.dumps(entry))
        self._separator = ","

    def __exit__(self, *error: Any) -> None:
        self._file.write("\n]\n" if self._separator == "," else "[]\n")
        self._file.close()


def _load_pixels(inputs: Inputs, workers: int) -> Iterator[tuple[str, Tensor | None, str | None]]:
    """Iterate over (path, (3, H, W) uint8 or None, error or None) of each image, in order."""
    return iter(DataLoader(UnlabeledDataset(inputs, pil_to_tensor, 1), batch_size=None, num_workers=workers))


def _unique_name(number: int, path: str, suffix: str) -> str:
    """Return a file name with the number of the image, since images in different folders may have the same name."""
    stem = Path(path).stem.encode("utf-8", "replace").decode()[:100]
    return f"{number:06d}-{stem}{suffix}"
