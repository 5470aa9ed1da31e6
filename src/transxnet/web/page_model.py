"""The model behind the page: its description, and predictions and Grad-CAM of one image at a time."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from transxnet.analysis.explain import explain_image, require_grad_cam
from transxnet.analysis.explain_figure import overlay
from transxnet.analysis.network_parts import NetworkPart, find_part, named_parts
from transxnet.data.formats.class_alignment import in_words
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.metrics.detection import MIN_SCORE, Detections
from transxnet.metrics.metric_names import METRIC_NAMES, format_metric
from transxnet.prediction.image_results import (
    ClassProbabilities,
    DetectedObjects,
    MultiLabelClassification,
    Regression,
    Segmentation,
    pixel_shares,
)
from transxnet.prediction.loaded_model import LoadedModel
from transxnet.reports.colors import Color, palette
from transxnet.reports.drawing import background_class
from transxnet.reports.model_description import describe_outputs
from transxnet.runs.trained_models import TrainedClassifier, TrainedModel
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.quantities import format_count, format_value
from transxnet.utils.text_files import read_json
from transxnet.web.uploads import MAX_DENSE_PIXELS, limit_pixels, resize_for_browser

TOP_K = 5
MAX_ROWS = 15
"""Maximum number of detections or pixel classes in a result."""


_MAIN_METRICS = ("accuracy", "macro_ap", "r2", "ap", "miou")


@dataclass(frozen=True)
class ResultRow:
    """A row of a result.

    Attributes:
        name: class name to show.
        share: probability, score or share of the pixels, 0 to 1.
        color: color of the class in the image, or None.
    """

    name: str
    share: float
    color: Color | None = None

    @property
    def percentage(self) -> str:
        """Share in percent, as text."""
        return rounded_percent(self.share)


@dataclass(frozen=True)
class ImageResult:
    """The prediction for one image.

    Attributes:
        headline: result in a few words.
        rows: rows to show, most important first.
        more: number of rows that are not shown.
        image: image for the browser, with detections or label map drawn over it.
        detections: all detections, with any score; None unless the model is a detector.
        notes: messages for the user.
    """

    headline: str
    rows: list[ResultRow]
    more: int
    image: Image.Image
    detections: Detections | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeatMap:
    """Grad-CAM of a class.

    Attributes:
        image: input of the network with the map overlaid.
        class_name: class name to show.
        layer: title of the layer.
        empty: whether the map is zero everywhere.
    """

    image: Image.Image
    class_name: str
    layer: str
    empty: bool


class PageModel:
    """A trained model that processes one image at a time, from any thread.

    Args:
        trained: classifier, detector or segmenter; its network is moved to the device.
        device: device to compute on, as for :func:`~transxnet.utils.device.resolve_device`.
        tta: predict with test-time augmentation.

    Attributes:
        class_names: class names to show.
        layers: layers that :meth:`explain` supports, by name; may be empty.
        why_no_layers: message for the user if ``layers`` is empty.

    Raises:
        UserError: the model reads other channels than RGB.
    """

    def __init__(self, trained: TrainedModel, device: str = "auto", tta: bool = False):
        channels = trained.backbone_preprocessing.channels
        if channels is not None:
            raise UserError(
                f"the page accepts images that browsers show, and {trained.name} reads {channels} channels. Use "
                "transxnet predict and transxnet explain."
            )
        self.trained = trained
        self.class_names = [in_words(name) for name in trained.class_names]
        self.layers: Mapping[str, NetworkPart] = {}
        self.why_no_layers = ""
        self._model = LoadedModel(TrainedBackend(trained, resolve_device(device))).with_options(tta=tta)
        self._model.backend.start()
        self._lock = threading.Lock()
        try:
            require_grad_cam()
            network = trained.backbone
            self.layers = named_parts(network) or {"last": find_part(network)}
        except UserError as error:
            self.why_no_layers = str(error)

    @property
    def title(self) -> str:
        """Title of the page: model and data of a run, or name of a published model."""
        if self.trained.run is None:
            return self.trained.name
        config = self.trained.run.read_config()
        return f"{config.model} on {Path(config.data).name}"

    @property
    def description(self) -> str:
        """Task, classes and, for a run, the main metric on the validation set."""
        outputs = describe_outputs(self.trained.task, self._model.targets.kind, self.class_names)
        return f"{outputs}. {self._main_metric()}".strip()

    def _main_metric(self) -> str:
        run = self.trained.run
        if run is None or not run.results_file.is_file():
            return ""
        try:
            metrics = read_json(run.results_file)
            name = next((name for name in _MAIN_METRICS if name in metrics), None)
            if name is None:
                return ""
            label = METRIC_NAMES[name][:1].upper() + METRIC_NAMES[name][1:]
            return f"{label}: {format_metric(name, metrics[name])} on {metrics['images']:,} validation images."
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{run.results_file} is damaged: {error}") from error

    def predict(self, image: Image.Image, min_score: float = MIN_SCORE) -> ImageResult:
        """Predict for an RGB image; for a detector, show the detections with at least ``min_score``."""
        classify = isinstance(self.trained, TrainedClassifier)
        shown, notes = (image, ()) if classify else _resize_dense(image)
        with self._lock:
            result = self._model.predict(shown)
        result = replace(result, class_names=self.class_names)
        if isinstance(result, DetectedObjects):
            return self._detection_result(result, min_score, notes)
        if isinstance(result, Segmentation):
            return self._segmentation_result(result, notes)
        if isinstance(result, Regression):
            headline = f"{result.name}: {format_value(result.value)}"
            return ImageResult(headline, [], 0, resize_for_browser(result.image))
        assert isinstance(result, ClassProbabilities)
        return self._classification_result(result)

    def filter(self, image: Image.Image, detections: Detections, min_score: float) -> ImageResult:
        """Return a detector's result for another minimum score, without running the model again."""
        resized, notes = _resize_dense(image)
        return self._detection_result(DetectedObjects(self.class_names, resized, detections), min_score, notes)

    def explain(self, image: Image.Image, layer: str, class_index: int | None = None) -> HeatMap:
        """Compute Grad-CAM of a class.

        Args:
            image: RGB image.
            layer: key of ``layers``.
            class_index: class index from 0; the default is that of :func:`~transxnet.analysis.explain.explain`.

        Raises:
            UserError: the class does not occur in the image, or Grad-CAM fails on this network.
        """
        if layer not in self.layers:
            raise UserError(f"the network has no layer {layer!r}. Accepted: {', '.join(self.layers)}.")
        if not isinstance(self.trained, TrainedClassifier):
            image = _resize_dense(image)[0]
        with self._lock:
            found = explain_image(self.trained, image, class_index, {layer: self.layers[layer]})
        heat = found.maps[layer]
        return HeatMap(_draw_heat(found.image, heat), found.class_name, found.titles[layer], not heat.any())

    def _classification_result(self, result: ClassProbabilities) -> ImageResult:
        rows = [ResultRow(name, probability) for name, probability in result.top(TOP_K)]
        headline = rows[0].name
        if isinstance(result, MultiLabelClassification):
            headline = ", ".join(result.labels) or "No label"
        return ImageResult(headline, rows, len(self.class_names) - len(rows), resize_for_browser(result.image))

    def _detection_result(self, result: DetectedObjects, min_score: float, notes: tuple[str, ...]) -> ImageResult:
        shown, colors = result.filter(min_score), palette(len(self.class_names))
        count = len(shown)
        rows = [
            ResultRow(self.class_names[label - 1], float(score), colors[label - 1])
            for label, score in zip(shown.detections.labels[:MAX_ROWS], shown.scores[:MAX_ROWS], strict=True)
        ]
        headline = format_count(count, "detection")
        if not count:
            headline = "No detections"
            if len(result):
                best = f"{result.labels[0]}, {rounded_percent(float(result.scores[0]))}"
                notes = (f"Best detection below the score threshold: {best}.", *notes)
        drawn = resize_for_browser(result.plot(min_score))
        return ImageResult(headline, rows, count - len(rows), drawn, result.detections, notes)

    def _segmentation_result(self, result: Segmentation, notes: tuple[str, ...]) -> ImageResult:
        colors = palette(len(self.class_names))
        untinted = background_class(result.label_map, result.class_names)
        rows = []
        for i, share in pixel_shares(result.label_map):
            name = self.class_names[i]
            rows.append(
                ResultRow(f"{name} (not tinted)", share) if i == untinted else ResultRow(name, share, colors[i])
            )
        headline = format_count(len(rows), "class", "classes")
        shown = rows[:MAX_ROWS]
        drawn = resize_for_browser(result.plot(legend=False))
        return ImageResult(headline, shown, len(rows) - len(shown), drawn, notes=notes)


def rounded_percent(share: float) -> str:
    """Format ``0.934`` as "93%"; shares that would wrongly round to 0% or 100% as "<1%" and ">99%"."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _resize_dense(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Downsize a large image for a detector or segmenter; also returns a note for the user if it was downsized."""
    resized = limit_pixels(image, MAX_DENSE_PIXELS)
    if resized is image:
        return image, ()
    return resized, (f"The image was resized from {_size_text(image)} to {_size_text(resized)} pixels for the model.",)


def _draw_heat(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Overlay a map (H, W) on an image (H, W, 3), for the browser."""
    large = resize_for_browser(Image.fromarray(image))
    resized = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(large.size, Image.Resampling.BICUBIC))
    return Image.fromarray(overlay(np.asarray(large), resized.clip(0, 1)))


def _size_text(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
