"""The predictions for one image: classes, labels, a value, detected objects, or a label map."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.reading.pixels import displayed
from transxnet.metrics.detection import MIN_SCORE, Detections
from transxnet.metrics.targets import MultiLabelTargets, RegressionTargets, Targets
from transxnet.prediction.image_inputs import ImageSource, open_source
from transxnet.reports.class_drawing import draw_classes, draw_value
from transxnet.reports.drawing import background_class, draw_detections, draw_label_map, enlarge
from transxnet.utils.quantities import format_count, format_value
from transxnet.utils.tables import data_frame, html_table

TOP_K = 5
"""Classes that are shown."""


@dataclass(frozen=True, repr=False, eq=False)
class ImagePrediction(ABC):
    """The prediction for one image.

    Attributes:
        class_names: K names by class index.
        source: path of the image, or the image.
        channels: number of channels that the model reads from the path; None for RGB.
    """

    class_names: list[str]
    source: ImageSource
    channels: int | None = field(default=None, kw_only=True)

    @property
    def image(self) -> Image.Image:
        """The image in RGB; a file is decoded again. Of channels the first three are rendered, or the first.

        Raises:
            UserError: the file cannot be read any more.
        """
        return displayed(open_source(self.source, self.channels))

    @abstractmethod
    def plot(self) -> Image.Image:
        """Draw the prediction on the image."""

    @abstractmethod
    def _columns(self) -> dict[str, Sequence[Any]]:
        """Return the columns of :meth:`to_pandas`."""

    @abstractmethod
    def _title(self) -> str:
        """Return the prediction in a few words."""

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame, the most important row first.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self._columns())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title()})"

    def _repr_html_(self) -> str:
        columns = {name: list(values) for name, values in self._columns().items()}
        return html_table(repr(self), list(columns), list(zip(*columns.values(), strict=True)))


@dataclass(frozen=True, repr=False, eq=False)
class ClassProbabilities(ImagePrediction):
    """A probability for each class.

    Attributes:
        class_names: C names by class index.
        source: path of the image, or the image.
        probabilities: (C,) float32.
    """

    probabilities: np.ndarray

    def top(self, k: int = TOP_K) -> list[tuple[str, float]]:
        """Return the names and probabilities of the ``k`` most probable classes, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.class_names[i], float(self.probabilities[i])) for i in order]

    def plot(self, k: int = TOP_K) -> Image.Image:
        """Return the image with the ``k`` most probable classes next to it."""
        return draw_classes(self.image, self.top(k))


@dataclass(frozen=True, repr=False, eq=False)
class Classification(ClassProbabilities):
    """The class of one image.

    Attributes:
        class_names: C names by class index.
        source: path of the image, or the image.
        probabilities: (C,) float32 softmax outputs.
    """

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.class_names[int(self.probabilities.argmax())]

    @property
    def score(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities.max())

    def _columns(self) -> dict[str, Sequence[Any]]:
        labels, scores = zip(*self.top(len(self.class_names)), strict=True)
        return {"label": labels, "score": scores}

    def _title(self) -> str:
        more = f", {len(self.class_names)} classes" if len(self.class_names) > 1 else ""
        return f"{self.label!r}, score {self.score:.4f}{more}"


@dataclass(frozen=True, repr=False, eq=False)
class MultiLabelClassification(ClassProbabilities):
    """The labels of one image, any number of C.

    Attributes:
        class_names: C names by class index.
        source: path of the image, or the image.
        probabilities: (C,) float32 sigmoid outputs.
        thresholds: (C,) smallest probability of each class at which its label is predicted.
    """

    thresholds: np.ndarray

    @property
    def labels(self) -> list[str]:
        """Names of the predicted labels, the most probable first."""
        predicted = {self.class_names[i] for i in np.flatnonzero(self.probabilities >= self.thresholds)}
        return [name for name, _ in self.top(len(self.class_names)) if name in predicted]

    def _columns(self) -> dict[str, Sequence[Any]]:
        names, scores = zip(*self.top(len(self.class_names)), strict=True)
        threshold = dict(zip(self.class_names, self.thresholds.tolist(), strict=True))
        return {"label": names, "score": scores, "threshold": [threshold[name] for name in names]}

    def _title(self) -> str:
        return f"{', '.join(map(repr, self.labels)) or 'no label'} of {format_count(len(self.class_names), 'label')}"


@dataclass(frozen=True, repr=False, eq=False)
class Regression(ImagePrediction):
    """The value of one image.

    Attributes:
        class_names: the name of the target, as a list of one.
        source: path of the image, or the image.
        value: predicted value, in the unit of the target.
    """

    value: float

    @property
    def name(self) -> str:
        """Name of the target."""
        return self.class_names[0]

    def plot(self) -> Image.Image:
        """Return the image with the name and the value next to it."""
        return draw_value(self.image, self.name, self.value)

    def _columns(self) -> dict[str, Sequence[Any]]:
        return {"name": [self.name], "value": [self.value]}

    def _title(self) -> str:
        return f"{self.name!r} {format_value(self.value)}"


def classifier_prediction(
    targets: Targets, class_names: list[str], source: ImageSource, outputs: np.ndarray, channels: int | None = None
) -> ImagePrediction:
    """Return the prediction for one image from a classifier's outputs (C,)."""
    if isinstance(targets, MultiLabelTargets):
        thresholds = np.array(targets.thresholds)
        return MultiLabelClassification(class_names, source, outputs, thresholds, channels=channels)
    if isinstance(targets, RegressionTargets):
        return Regression(class_names, source, float(outputs[0]), channels=channels)
    return Classification(class_names, source, outputs, channels=channels)


@dataclass(frozen=True, repr=False, eq=False)
class DetectedObjects(ImagePrediction):
    """The objects detected in one image, highest score first; ``len()`` is their number.

    Attributes:
        class_names: K names; label 1 of ``detections`` is the first.
        source: path of the image, or the image.
        detections: boxes, label numbers, scores and masks in COCO's run-length encoding.
    """

    detections: Detections

    def __len__(self) -> int:
        return len(self.detections.scores)

    @property
    def boxes(self) -> np.ndarray:
        """(D, 4) float32, x1, y1, x2, y2 in pixels of the image."""
        return self.detections.boxes

    @property
    def labels(self) -> list[str]:
        """Class names of the D objects."""
        return [self.class_names[label - 1] for label in self.detections.labels]

    @property
    def scores(self) -> np.ndarray:
        """(D,) float32, 0 to 1."""
        return self.detections.scores

    @property
    def masks(self) -> np.ndarray | None:
        """(D, H, W) bool, decoded at each access; None for a detector of boxes."""
        if self.detections.masks is None:
            return None
        masks = self.detections.masks
        return self.detections.decode_masks(*(masks[0]["size"] if masks else self.image.size[::-1]))

    def filter(self, min_score: float = MIN_SCORE) -> "DetectedObjects":
        """Return the objects with at least this score."""
        return DetectedObjects(self.class_names, self.source, self.detections.filter(min_score))

    def plot(self, min_score: float = MIN_SCORE) -> Image.Image:
        """Draw the objects with at least this score, as ``transxnet predict`` does; small images are enlarged."""
        return draw_detections(*enlarge(self.image, self.detections.filter(min_score)), self.class_names)

    def _columns(self) -> dict[str, Sequence[Any]]:
        corners = {name: self.boxes[:, i].tolist() for i, name in enumerate(("x1", "y1", "x2", "y2"))}
        return {"label": self.labels, "score": self.scores.tolist(), **corners}

    def _title(self) -> str:
        best = f", best {self.labels[0]!r}, score {self.scores[0]:.4f}" if len(self) else ""
        return f"{format_count(len(self), 'object')}{best}"


@dataclass(frozen=True, repr=False, eq=False)
class Segmentation(ImagePrediction):
    """The label map of one image.

    Attributes:
        class_names: K names; label 0 is the first.
        source: path of the image, or the image.
        label_map: (H, W) uint8, the class of each pixel, at the size of the image.
    """

    label_map: np.ndarray

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that occurs, largest first."""
        return {self.class_names[i]: share for i, share in pixel_shares(self.label_map)}

    def plot(self, legend: bool = True) -> Image.Image:
        """Draw the class colors over the image, as ``transxnet predict`` does."""
        untinted = background_class(self.label_map, self.class_names)
        return draw_label_map(self.image, self.label_map, self.class_names, untinted=untinted, legend=legend)

    def _columns(self) -> dict[str, Sequence[Any]]:
        return {"label": list(self.shares), "share": list(self.shares.values())}

    def _title(self) -> str:
        height, width = self.label_map.shape
        shown = ", ".join(f"{name} {share:.1%}" for name, share in list(self.shares.items())[:3])
        return f"{width}x{height} pixels, {shown}"


def pixel_shares(label_map: np.ndarray) -> list[tuple[int, float]]:
    """Return the classes in a label map (H, W) with their shares of the pixels, largest first."""
    counts = np.bincount(label_map.ravel())
    return [(int(i), float(counts[i] / counts.sum())) for i in np.argsort(-counts, kind="stable") if counts[i]]
