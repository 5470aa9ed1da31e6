"""Predicting objects in any number of image files, or the labels of their pixels."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset
from transxnet.data.loading.dense_transforms import AlignedResize
from transxnet.data.reading.image_search import Inputs
from transxnet.evaluation.inference import detect, segment
from transxnet.metrics.detection import Detections, coco_results
from transxnet.reports.drawing import draw_detections, draw_label_map, indexed_map
from transxnet.runs.load import TrainedDetector, TrainedSegmenter
from transxnet.utils.device import default_device, prepare_for_inference
from transxnet.utils.files import ESCAPED_UTF8


@dataclass(frozen=True)
class ImageObjects:
    """What a detector found in one image.

    Attributes:
        path: of the file.
        picture: in RGB and its own size, or None where it could not be read.
        found: the objects, or None likewise.
        error: why the image could not be read, or None.
    """

    path: str
    picture: Image.Image | None
    found: Detections | None
    error: str | None = None


@dataclass(frozen=True)
class ImageLabels:
    """How a segmenter labelled one image.

    Attributes:
        path: of the file.
        picture: in RGB and its own size, or None where it could not be read.
        labels: (H, W) uint8 in the picture's own size, or None likewise.
        error: why the image could not be read, or None.
    """

    path: str
    picture: Image.Image | None
    labels: np.ndarray | None
    error: str | None = None


def find_objects(trained: TrainedDetector, inputs: Inputs, workers: int = 0) -> Iterator[ImageObjects]:
    """Objects in the images that files, folders and globs stand for, in order, in constant memory."""
    device = default_device()
    model = prepare_for_inference(trained.model, device)
    for path, pixels, error in _pixels(inputs, workers):
        if pixels is None:
            yield ImageObjects(path, None, None, error)
        else:
            (answer,) = detect(model, [pixels], device)
            yield ImageObjects(path, _picture(pixels), Detections.from_output(answer))


def label_pixels(trained: TrainedSegmenter, inputs: Inputs, workers: int = 0) -> Iterator[ImageLabels]:
    """Label maps of the images that files, folders and globs stand for, in order, in constant memory."""
    device, resize = default_device(), AlignedResize(trained.scale)
    model = prepare_for_inference(trained.model, device)
    for path, pixels, error in _pixels(inputs, workers):
        if pixels is None:
            yield ImageLabels(path, None, None, error)
        else:
            labels = segment(model, resize(tv_tensors.Image(pixels)), pixels.shape[1:], device)
            yield ImageLabels(path, _picture(pixels), labels)


def write_objects(
    predictions: Iterator[ImageObjects], folder: Path, class_names: Sequence[str]
) -> Iterator[str | None]:
    """Write what a detector found; of each image, which could not be read and why, or None.

    ``images.json`` has the images and the categories in COCO's format and ``detections.json`` the results, so that
    pycocotools reads them as ``COCO("images.json").loadRes("detections.json")``; ``drawn/`` has the pictures with what
    was found with a score of at least a half.
    """
    (folder / "drawn").mkdir()
    category_ids = range(1, len(class_names) + 1)
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, class_names, strict=True)]
    with _json_list(folder / "detections.json") as results, _json_list(folder / "images.part") as images:
        for number, prediction in enumerate(predictions, 1):
            entry: dict[str, Any] = {"id": number, "file_name": prediction.path}
            if prediction.picture is None or prediction.found is None:
                images.add({**entry, "error": prediction.error})
                yield f"{prediction.path}: {prediction.error}"
                continue
            images.add({**entry, "width": prediction.picture.width, "height": prediction.picture.height})
            for result in coco_results(prediction.found, number, category_ids):
                results.add(result)
            drawn = draw_detections(prediction.picture, prediction.found.filter(), class_names)
            drawn.save(folder / "drawn" / _name(number, prediction.path, ".jpg"), quality=92)
            yield None
    with (
        (folder / "images.json").open("w", **ESCAPED_UTF8) as file,
        (folder / "images.part").open(**ESCAPED_UTF8) as part,
    ):
        file.write('{"categories": ' + json.dumps(categories) + ',\n"images": ')
        file.writelines(part)
        file.write("}\n")


def write_label_maps(
    predictions: Iterator[ImageLabels], folder: Path, class_names: Sequence[str]
) -> Iterator[str | None]:
    """Write how a segmenter labelled images; of each, which could not be read and why, or None.

    ``maps/`` has indexed PNG files whose values are the classes, from 0, in the order of ``classes.txt``; ``drawn/``
    the pictures under their classes' colours; ``predictions.csv`` the file of each image and its commonest class.
    """
    for name in ("maps", "drawn"):
        (folder / name).mkdir()
    (folder / "classes.txt").write_text("\n".join(class_names) + "\n", **ESCAPED_UTF8)
    with (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "map", "commonest", "share", "error"])
        for number, prediction in enumerate(predictions, 1):
            if prediction.picture is None or prediction.labels is None:
                writer.writerow([prediction.path, "", "", "", prediction.error])
                yield f"{prediction.path}: {prediction.error}"
                continue
            name = _name(number, prediction.path, ".png")
            indexed_map(prediction.labels, len(class_names)).save(folder / "maps" / name)
            drawn = draw_label_map(prediction.picture, prediction.labels, class_names)
            drawn.save(folder / "drawn" / Path(name).with_suffix(".jpg"), quality=92)
            counts = np.bincount(prediction.labels.ravel(), minlength=len(class_names))
            commonest, share = class_names[int(counts.argmax())], counts.max() / counts.sum()
            writer.writerow([prediction.path, f"maps/{name}", commonest, f"{share:.4f}", ""])
            yield None


class _json_list:
    """A JSON file of a list that is written entry by entry."""

    def __init__(self, path: Path):
        self._file = path.open("w", **ESCAPED_UTF8)
        self._before = "["

    def __enter__(self) -> "_json_list":
        return self

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(self._before + "\n" + json.dumps(entry))
        self._before = ","

    def __exit__(self, *error: Any) -> None:
        self._file.write("\n]\n" if self._before == "," else "[]\n")
        self._file.close()


def _pixels(inputs: Inputs, workers: int) -> Iterator[tuple[str, Tensor | None, str | None]]:
    """(path, (3, H, W) uint8 or None, error or None) of each file, in order."""
    dataset = UnlabeledDataset(inputs, pil_to_tensor, 1)
    loader = DataLoader(dataset, 1, num_workers=workers, collate_fn=_only)
    return iter(loader)


def _only(items: list[Any]) -> Any:
    (item,) = items
    return item


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _name(number: int, path: str, suffix: str) -> str:
    """A file name that is unlike all others, since images of several folders may share theirs."""
    stem = Path(path).stem.encode("utf-8", "replace").decode()[:100]
    return f"{number:06d}-{stem}{suffix}"
